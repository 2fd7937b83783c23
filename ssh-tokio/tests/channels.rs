//! Channels that come and go: numbers are used again, and nobody hears what is said to another.

mod common;

use common::{config, pair_with, soon};
use ssh_tokio::{Channel, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A channel whose other end says back what it hears.
struct Echo {
    number: u32,
    channel: Channel,
}

impl Echo {
    async fn open(client: &Client, number: u32) -> Self {
        let name = number.to_be_bytes();
        let opening = client.open_custom("echo@example.com", &name);
        let (channel, said) = soon(opening).await.unwrap();
        assert_eq!(said, [b"you said ", &name[..]].concat());
        Self { number, channel }
    }

    async fn say(&mut self) {
        let name = self.number.to_be_bytes();
        soon(self.channel.write_all(&name)).await.unwrap();
    }

    async fn hear(&mut self) {
        let mut said = [0; 4];
        soon(self.channel.read_exact(&mut said)).await.unwrap();
        assert_eq!(u32::from_be_bytes(said), self.number);
    }

    /// Closes it in one of several ways, where something may be on its way.
    async fn close(mut self, way: usize) {
        match way % 4 {
            0 => drop(self),
            1 => {
                self.say().await;
                drop(self);
            }
            2 => {
                self.say().await;
                self.channel.shutdown_write().unwrap();
                self.hear().await;
                assert_eq!(soon(self.channel.read(&mut [0])).await.unwrap(), 0);
                soon(self.channel.wait_closed()).await;
            }
            _ => {
                self.channel.close();
                soon(self.channel.wait_closed()).await;
                // The number is not used again while somebody holds it: nothing of others comes here.
                assert!(!matches!(soon(self.channel.read(&mut [0])).await, Ok(1..)));
            }
        }
    }
}

#[tokio::test]
async fn channels_that_come_and_go_in_any_order_hear_only_what_is_said_to_them() {
    let pair = pair_with(config(), 4_000).await;
    let mut state = 7_usize;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut open = Vec::new();
    let mut number = 0;
    for target in [3, 1, 40, 5, 200, 190, 20, 60, 0, 12] {
        while open.len() != target {
            if open.len() < target {
                open.push(Echo::open(&pair.client, number).await);
                number += 1;
            } else {
                let at = draw(open.len());
                open.swap_remove(at).close(draw(4)).await;
            }
            // One goes where another one has just been.
            if !open.is_empty() && draw(3) == 0 {
                let at = draw(open.len());
                open.swap_remove(at).close(draw(4)).await;
                open.push(Echo::open(&pair.client, number).await);
                number += 1;
            }
            let few: Vec<_> = (0..open.len().min(3)).map(|_| draw(open.len())).collect();
            for at in &few {
                open[*at].say().await;
            }
            for at in &few {
                open[*at].hear().await;
            }
        }
        for echo in &mut open {
            echo.say().await;
        }
        for echo in open.iter_mut().rev() {
            echo.hear().await;
        }
    }
    assert!(number > 400, "{number}");
    drop((open, pair.client));
    soon(pair.driver).await.unwrap().unwrap();
    soon(pair.serving).await.unwrap().unwrap();
}
