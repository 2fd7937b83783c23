//! The line ends behind any number of bytes, in either direction: what the adapters' clients say to that, and that their
//! server goes on.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use conformance::ours::{Accounts, OurServer};

/// Longer than what is said before it: the cut falls into channel data as well.
const OUTPUT: usize = 4_000;
const COMMAND: &str = "head -c 4000 /dev/zero";

/// Bytes from client to server, and back.
type Count = (usize, usize);

/// A line to `server` that ends behind so many bytes of either direction. It gives how many went through.
fn line(server: SocketAddr, (up, down): Count) -> (SocketAddr, JoinHandle<Count>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let (client, _) = listener.accept().expect("the client");
        let server = TcpStream::connect(server).expect("the server");
        let twin = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        let (from, to) = (twin(&client), twin(&server));
        let upward = thread::spawn(move || carry(&from, &to, up));
        let down = carry(&server, &client, down);
        (upward.join().expect("a thread that ends"), down)
    });
    (address, thread)
}

/// Carries at most `most` bytes; then, or when one of them ends, both do.
fn carry(mut from: &TcpStream, mut to: &TcpStream, most: usize) -> usize {
    let mut carried = 0;
    let mut buffer = [0; 4_096];
    while carried < most {
        let room = buffer.len().min(most - carried);
        match from.read(&mut buffer[..room]) {
            Ok(len) if len > 0 && to.write_all(&buffer[..len]).is_ok() => carried += len,
            _ => break,
        }
    }
    for stream in [from, to] {
        // The other end may have gone before.
        _ = stream.shutdown(Shutdown::Both);
    }
    carried
}

/// Runs sessions over lines that end ever later. `session` gives the output of the command.
fn wherever_it_ends(session: impl Fn(SocketAddr, &OurServer) -> Result<Vec<u8>, ErrorKind>) {
    let accounts = Accounts {
        open: true,
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let whole = |most| {
        let (address, line) = line(server.address(), most);
        let outcome = session(address, &server);
        (outcome, line.join().expect("a line that ends"))
    };
    let (outcome, (up, down)) = whole((usize::MAX, usize::MAX));
    assert_eq!(outcome.map(|output| output.len()), Ok(OUTPUT));
    let cuts = |all: usize| (0..all).step_by(all / 60);
    let all = cuts(up)
        .map(|cut| ((cut, usize::MAX), cut < up / 2))
        .chain(cuts(down).map(|cut| ((usize::MAX, cut), cut < down - OUTPUT / 2)));
    for (cut, must_fail) in all {
        match whole(cut).0 {
            // What is said in parting may be missing.
            Ok(output) => assert!(!must_fail && output == [0; OUTPUT], "{cut:?}"),
            Err(kind) => assert!(
                matches!(
                    kind,
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{cut:?}: {kind}"
            ),
        }
    }
    let (outcome, _) = whole((usize::MAX, usize::MAX));
    assert_eq!(outcome.map(|output| output.len()), Ok(OUTPUT));
}

#[test]
fn clients_on_threads_end_with_an_error_wherever_the_stream_ends() {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};
    wherever_it_ends(|address, server| {
        let options = ClientOptions::new(HostKeyPolicy::key(server.host_key().clone()));
        let run = || {
            let client = Client::connect(address, options)?;
            assert!(client.auth_none("anybody")?.success());
            Ok(client.exec(COMMAND).output()?.stdout)
        };
        run().map_err(|error: ssh_blocking::Error| error.kind())
    });
}

#[test]
fn clients_on_tokio_end_with_an_error_wherever_the_stream_ends() {
    use ssh_tokio::{Client, ClientOptions, HostKeyPolicy};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    wherever_it_ends(|address, server| {
        let options = ClientOptions::new(HostKeyPolicy::key(server.host_key().clone()));
        let run = async {
            let (client, driver) = Client::connect(address, options).await?;
            let connection = driver.spawn();
            assert!(client.auth_none("anybody").await?.success());
            let output = client.exec(COMMAND).output().await?;
            drop(client);
            // The end that it comes to is not what this is about.
            _ = connection.await;
            Ok(output.stdout)
        };
        runtime
            .block_on(run)
            .map_err(|error: ssh_tokio::Error| error.kind())
    });
}
