//! Both ends in one process: a server with fresh keys on a loopback port, and a client that uses it in every way.
//! What is printed was checked: the demonstration ends with status 0 only if all of it was right.
//!
//! ```text
//! cargo run --release -p ssh-blocking --example demo
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ssh_blocking::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_blocking::ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::{ChannelId, LoginAttempt, OpenKind, PtyRequest, WindowSize};
use ssh_blocking::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerOptions,
    Session, Task, Verdict,
};

const MIB: usize = 1024 * 1024;

type Failure = Box<dyn std::error::Error>;

/// The server's side of one connection.
struct Host {
    user_key: PublicKey,
    /// The size of each session's terminal, which its shell asks for.
    sizes: BTreeMap<ChannelId, Arc<Mutex<WindowSize>>>,
}

impl Handler for Host {
    fn check_key_offer(&mut self, user: &str, key: &PublicKey) -> bool {
        user == "demo" && *key == self.user_key
    }

    fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
        if attempt.user() == "demo" && *key == self.user_key {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            _ => OpenVerdict::refuse(),
        }
    }

    fn check_pty(&mut self, session: &Session, pty: &PtyRequest) -> bool {
        let size = WindowSize {
            columns: pty.columns,
            rows: pty.rows,
            ..WindowSize::default()
        };
        self.sizes
            .insert(session.channel, Arc::new(Mutex::new(size)));
        true
    }

    fn window_change(&mut self, session: &Session, size: WindowSize) {
        if let Some(known) = self.sizes.get(&session.channel) {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = size;
        }
    }

    /// A shell that knows two words.
    fn check_shell(&mut self, session: &Session) -> Option<Task> {
        let size = Arc::clone(self.sizes.get(&session.channel)?);
        Some(Box::new(move |mut channel| {
            let mut line = Vec::new();
            let mut byte = [0];
            while channel.read(&mut byte).unwrap_or(0) > 0 {
                if byte != *b"\n" {
                    line.push(byte[0]);
                    continue;
                }
                let answer = match line.as_slice() {
                    b"size" => {
                        let size = *size.lock().unwrap_or_else(PoisonError::into_inner);
                        format!("{} columns, {} rows\r\n", size.columns, size.rows)
                    }
                    b"exit" => return ExitStatus::Code(0),
                    _ => "what?\r\n".to_owned(),
                };
                line.clear();
                if channel.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
            ExitStatus::Code(1)
        }))
    }

    fn check_exec(&mut self, _: &Session, command: &[u8]) -> Option<Task> {
        match command {
            b"hello" => Some(Box::new(|mut channel| {
                let done = writeln!(channel, "hello from the server")
                    .and_then(|()| writeln!(channel.stderr(), "and this went to stderr"));
                ExitStatus::Code(if done.is_ok() { 0 } else { 1 })
            })),
            b"cat" => Some(Box::new(|mut channel| {
                let done = channel.clone().copy_to(&mut channel);
                ExitStatus::Code(if done.is_ok() { 0 } else { 1 })
            })),
            b"fail" => Some(Box::new(|_| ExitStatus::Code(42))),
            _ => None,
        }
    }
}

fn main() -> Result<(), Failure> {
    let begin = Instant::now();
    let (host_key, user_key) = (generate()?, generate()?);
    let fingerprint = host_key.public().fingerprint_sha256();
    let public = user_key.public().clone();
    let mut config = ServerConfig::new(vec![HostKey::Private(Arc::new(host_key))]);
    config.auth_methods = vec![AuthMethod::PublicKey];
    let server = Server::new(ServerOptions::new(config, move |_| Host {
        user_key: public.clone(),
        sizes: BTreeMap::new(),
    }))
    .bind("127.0.0.1:0")?;
    println!("server   listens on {}", server.address());

    // A server whose key is another one is not talked to.
    let wrong = HostKeyPolicy::fingerprint(generate()?.public().fingerprint_sha256());
    let refused = Client::connect(server.address(), ClientOptions::new(wrong));
    let Err(refused) = refused else {
        return Err("a wrong host key was accepted".into());
    };
    println!("refused  {refused}");

    let options = ClientOptions::new(HostKeyPolicy::fingerprint(&fingerprint));
    let client = Client::connect(server.address(), options)?;
    println!("host key {fingerprint}, as expected");
    ensure(
        !client.auth_public_key("demo", generate()?)?.success(),
        "a wrong user key was accepted",
    )?;
    ensure(
        client.auth_public_key("demo", user_key)?.success(),
        "the right user key was refused",
    )?;
    println!("login    as demo by public key; another key was refused");
    let negotiated = client.negotiated().ok_or("nothing was negotiated")?;
    println!(
        "in force {}, {}, {} up, {} down{}",
        negotiated.kex,
        negotiated.host_key,
        negotiated.client_to_server.cipher,
        negotiated.server_to_client.cipher,
        if negotiated.strict { ", strict" } else { "" }
    );
    ensure(negotiated.strict, "strict key exchange is not in force")?;

    commands(&client)?;
    shell(&client)?;
    echo(&client, 16 * MIB, 0)?;
    echo(&client, 64 * MIB, 8)?;

    client.disconnect();
    ensure(
        client.exec("hello").output().is_err(),
        "a closed connection runs commands",
    )?;
    drop(client);
    ensure(
        server.stop(Duration::from_secs(5)) == 0,
        "a connection did not end",
    )?;
    println!(
        "done     in {:.2} s, all of it as it should be",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

fn commands(client: &Client) -> Result<(), Failure> {
    let hello = client.exec("hello").output()?;
    ensure(hello.stdout == b"hello from the server\n", "wrong output")?;
    ensure(hello.stderr == b"and this went to stderr\n", "wrong errors")?;
    ensure(hello.status == ExitStatus::Code(0), "wrong status")?;
    println!(
        "exec     {}, {}",
        String::from_utf8_lossy(&hello.stdout).trim_end(),
        hello.status
    );
    let failed = client.exec("fail").status()?;
    ensure(failed == ExitStatus::Code(42), "wrong status")?;
    println!("exec     another one: {failed}");
    let unknown = client.exec("rm -rf /").status();
    ensure(unknown.is_err(), "an unknown command ran")?;
    println!("exec     a third one: the server refused it");
    Ok(())
}

/// A shell on a terminal, which is made smaller on the way.
fn shell(client: &Client) -> Result<(), Failure> {
    let terminal = PtyRequest {
        term: "xterm-256color".into(),
        columns: 132,
        rows: 50,
        ..PtyRequest::default()
    };
    let mut shell = client.shell().pty(terminal).spawn()?;
    let (Some(mut stdin), Some(stdout)) = (shell.stdin.take(), shell.stdout.take()) else {
        return Err("no streams".into());
    };
    let mut stdout = BufReader::new(stdout);
    let mut ask = || -> Result<String, Failure> {
        let mut answer = String::new();
        stdin.write_all(b"size\n")?;
        stdout.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    };
    let first = ask()?;
    ensure(
        first == "132 columns, 50 rows",
        "the shell saw another size",
    )?;
    println!("shell    saw {first}");
    shell.resize(WindowSize {
        columns: 80,
        rows: 24,
        ..WindowSize::default()
    })?;
    // No reply says that it has arrived (RFC 4254 section 6.7), so the shell is asked until it has.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut second = ask()?;
    while second == first && Instant::now() < deadline {
        second = ask()?;
    }
    ensure(
        second == "80 columns, 24 rows",
        "the shell saw another size",
    )?;
    println!("shell    saw {second}");
    stdin.write_all(b"exit\n")?;
    ensure(shell.wait()?.success(), "the shell failed")
}

/// Sends bytes through `cat` and compares what comes back, with so many key exchanges meanwhile.
fn echo(client: &Client, len: usize, rekeys: u64) -> Result<(), Failure> {
    let before = client.rekeys();
    let begin = Instant::now();
    let mut cat = client.exec("cat").spawn()?;
    let (Some(mut stdin), Some(mut stdout)) = (cat.stdin.take(), cat.stdout.take()) else {
        return Err("no streams".into());
    };
    let sent = std::thread::scope(|scope| -> Result<u64, Failure> {
        let writer = scope.spawn(move || -> Result<u64, String> {
            let (mut hash, mut state) = (Hash::new(), 1);
            let mut block = vec![0; MIB];
            for _ in 0..len / MIB {
                fill(&mut block, &mut state);
                hash.add(&block);
                stdin.write_all(&block).map_err(|error| error.to_string())?;
            }
            Ok(hash.0)
        });
        let (mut hash, mut received) = (Hash::new(), 0);
        let mut buf = vec![0; 64 * 1024];
        let mut asked = 0;
        loop {
            let count = stdout.read(&mut buf)?;
            if count == 0 {
                break;
            }
            hash.add(&buf[..count]);
            received += count;
            // Spread over the transfer, whatever its speed.
            if asked < rekeys && received as u64 * (rekeys + 1) > (asked + 1) * len as u64 {
                client.rekey()?;
                asked += 1;
            }
        }
        ensure(received == len, "bytes are missing")?;
        let sent = writer.join().map_err(|_| "the writer panicked")??;
        ensure(sent == hash.0, "other bytes came back")?;
        Ok(sent)
    })?;
    ensure(cat.wait()?.success(), "cat failed")?;
    let done = client.rekeys() - before;
    ensure(rekeys == 0 || done > 0, "no key exchange took place")?;
    println!(
        "echo     {} MiB and back in {:.2} s, hash {sent:016x}, {done} key exchanges meanwhile",
        len / MIB,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// FNV-1a over words: enough to see that nothing was lost, changed or swapped.
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Bytes that do not repeat soon: xorshift.
fn fill(block: &mut [u8], state: &mut u64) {
    for chunk in block.chunks_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

fn generate() -> Result<PrivateKey, Failure> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| error.to_string())?;
    Ok(PrivateKey::generate(KeyKind::Ed25519, &entropy)?)
}

fn ensure(fine: bool, otherwise: &str) -> Result<(), Failure> {
    if fine { Ok(()) } else { Err(otherwise.into()) }
}
