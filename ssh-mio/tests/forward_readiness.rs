//! Forwards whose connections are cut at any step leave nothing behind: no token, no descriptor, no file.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forwarding::{ANY, Lab, generous, path};
use ssh_mio::ForwardId;
use ssh_mio::mio::Token;
use ssh_mio::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};

/// What goes each way: more than the sockets' buffers hold at once.
const LEN: usize = 1_500_000;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An application, or a target: it sends so much, says so, and reads to the end.
struct Talker {
    stream: TcpStream,
    proxy: Option<SocksClient>,
    sent: usize,
    received: usize,
    over: bool,
}

impl Talker {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            proxy: None,
            sent: 0,
            received: 0,
            over: false,
        }
    }

    /// What can be done now. That it is cut off is an end like any other.
    fn step(&mut self) {
        if self.over {
            return;
        }
        match self.talk() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.over = true;
                // As every program does that ends.
                _ = self.stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn talk(&mut self) -> io::Result<()> {
        while let Some(proxy) = &mut self.proxy {
            while !proxy.output().is_empty() {
                let len = self.stream.write(proxy.output())?;
                proxy.consume_output(len);
            }
            let mut byte = [0];
            if self.stream.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            proxy.handle_bytes(&byte);
            match proxy.poll_event() {
                None => {}
                Some(SocksReply::Connected) => self.proxy = None,
                Some(_) => return Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        let sent = self.send();
        let mut buf = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buf)? {
                0 => break,
                len => {
                    let right = (self.received..).zip(&buf[..len]);
                    assert!(right.into_iter().all(|(i, &byte)| byte == (i % 251) as u8));
                    self.received += len;
                }
            }
        }
        sent?;
        self.over = true;
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.sent == LEN {
            return Ok(());
        }
        while self.sent < LEN {
            let end = LEN.min(self.sent + 64 * 1024);
            let piece: Vec<u8> = (self.sent..end).map(|i| (i % 251) as u8).collect();
            self.sent += self.stream.write(&piece)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }
}

/// One forward of each kind with a connection each, all in this thread.
struct Scene {
    lab: Lab,
    client: Token,
    forwards: Vec<ForwardId>,
    target: TcpListener,
    path: PathBuf,
    applications: Vec<Option<Talker>>,
    targets: Vec<Talker>,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new(generous());
        let client = lab.client();
        let target = TcpListener::bind(ANY).unwrap();
        target.set_nonblocking(true).unwrap();
        let to = target.local_addr().unwrap();
        let path = path("cut");
        let here = &mut lab.here;
        let forwards = vec![
            here.forward_local(client, ANY, to).unwrap(),
            here.forward_dynamic(client, ANY).unwrap(),
            here.forward_remote(client, ("localhost", 0), to),
            here.forward_remote_dynamic(client, ("", 0)),
            here.forward_local_path(client, &path, to).unwrap(),
            here.forward_remote_path(client, path.with_extension("remote"), to),
        ];
        Self {
            lab,
            client,
            forwards,
            target,
            path,
            applications: (0..4).map(|_| None).collect(),
            targets: Vec::new(),
        }
    }

    fn target(&self) -> SocketAddr {
        self.target.local_addr().unwrap()
    }

    /// One step of either end, then of whoever is around them.
    fn step(&mut self, step: usize) {
        if step.is_multiple_of(2) {
            self.lab.wait();
            self.lab.run_servers();
        } else {
            self.lab.run_clients();
        }
        for number in 0..self.applications.len() {
            if self.applications[number].is_none()
                && let Some(port) = self.lab.here.port(self.forwards[number])
                && let Ok(stream) = TcpStream::connect(("127.0.0.1", port))
            {
                let mut talker = Talker::new(stream);
                if number % 2 == 1 {
                    let (host, port) = ("127.0.0.1", self.target().port());
                    talker.proxy = Some(SocksClient::new(SocksVersion::V5, host, port).unwrap());
                }
                self.applications[number] = Some(talker);
            }
        }
        while let Ok((stream, _)) = self.target.accept() {
            self.targets.push(Talker::new(stream));
        }
        let all = self.applications.iter_mut().flatten();
        for talker in all.chain(&mut self.targets) {
            talker.step();
        }
    }

    fn is_done(&self) -> bool {
        let applications = &self.applications;
        let talkers = applications.iter().flatten().chain(&self.targets);
        applications.iter().all(Option::is_some)
            && self.targets.len() == 4
            && talkers.into_iter().all(|talker| talker.over)
    }

    /// All forwards are in force, three on each side, and have no connections.
    fn is_quiet(&self) -> bool {
        let Lab { here, there, .. } = &self.lab;
        let remote = &self.forwards[2..4];
        (here.len(), there.len()) == (3, 3)
            && remote.iter().all(|forward| here.port(*forward).is_some())
            && self.path.with_extension("remote").exists()
    }

    /// Everything has its end, and both sides have given back all that they had.
    fn ends(mut self, what: &str) {
        let start = Instant::now();
        let mut step = 0;
        while step < 6 || !(self.lab.here.is_empty() && self.lab.there.is_empty()) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{what}: {} and {} tokens",
                self.lab.here.len(),
                self.lab.there.len()
            );
            self.step(step);
            step += 1;
        }
        assert!(!self.path.exists(), "{what}");
        assert!(!self.path.with_extension("remote").exists(), "{what}");
        for forward in &self.forwards {
            assert_eq!(self.lab.here.port(*forward), None, "{what}");
        }
        // Nobody waits for anything any more.
        let now = Instant::now() + Duration::from_secs(60);
        assert_eq!(self.lab.here.poll_session(now), None, "{what}");
        assert_eq!(self.lab.there.poll_session(now), None, "{what}");
        assert_eq!(self.lab.here.wait_time(now), None, "{what}");
        assert_eq!(self.lab.there.wait_time(now), None, "{what}");
    }
}

/// Runs until all have said and heard everything; says how many steps that took.
fn whole() -> usize {
    let mut scene = Scene::new();
    let start = Instant::now();
    let mut steps = 0;
    while !scene.is_done() {
        assert!(start.elapsed() < Duration::from_secs(30));
        scene.step(steps);
        steps += 1;
    }
    let all = scene.applications.iter().flatten().chain(&scene.targets);
    for talker in all {
        assert_eq!((talker.sent, talker.received), (LEN, LEN));
    }
    for forward in scene.forwards.clone() {
        scene.lab.here.stop(forward);
    }
    scene.ends("nothing was cut");
    steps
}

// One test in this file: descriptors are counted for the whole process.
#[test]
fn whoever_is_cut_off_at_any_step_leaves_nothing_behind() {
    // What is made once stays.
    whole();
    let before = descriptors();
    let steps = whole();
    assert_eq!(descriptors(), before);
    assert!(steps > 20, "{steps} steps");
    type Cut = (&'static str, fn(&mut Scene));
    let cuts: [Cut; 4] = [
        ("the client", |scene| {
            let registry = scene.lab.poll.registry();
            scene.lab.clients.remove(registry, scene.client);
            scene.lab.here.remove(scene.client);
        }),
        ("the server", |scene| {
            let registry = scene.lab.poll.registry();
            if scene.lab.servers.remove(registry, Token(1)).is_some() {
                scene.lab.there.remove(Token(1));
            } else {
                // It has not heard of the client yet, and will.
                scene.lab.clients.remove(registry, scene.client);
                scene.lab.here.remove(scene.client);
            }
        }),
        ("the forwards", |scene| {
            for forward in &scene.forwards {
                scene.lab.here.stop(*forward);
            }
        }),
        ("applications and targets", |scene| {
            let target = scene.target();
            for application in &mut scene.applications {
                // One that is not there yet is not to come later.
                let mut gone = application
                    .take()
                    .unwrap_or_else(|| Talker::new(TcpStream::connect(target).unwrap()));
                _ = gone.stream.shutdown(Shutdown::Both);
                gone.over = true;
                *application = Some(gone);
            }
        }),
    ];
    // Steps are not the same each time: at every one of the first, and then at some.
    let at = (0..40).chain((40..steps.max(41)).step_by(7));
    for (what, cut) in cuts {
        for at in at.clone() {
            let mut scene = Scene::new();
            for step in 0..at {
                scene.step(step);
            }
            cut(&mut scene);
            if what == "applications and targets" {
                // The forwards themselves come into force and stay; only connections end.
                let start = Instant::now();
                let mut step = 0;
                while !scene.is_quiet() {
                    assert!(start.elapsed() < Duration::from_secs(30), "{what} at {at}");
                    scene.targets.clear();
                    scene.step(step);
                    step += 1;
                }
                for forward in &scene.forwards {
                    scene.lab.here.stop(*forward);
                }
            }
            scene.ends(&format!("{what}, cut at step {at}"));
            assert_eq!(descriptors(), before, "{what}, cut at step {at}");
        }
    }
}
