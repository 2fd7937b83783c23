mod common;
use common::*;
use ssh_blocking::*;
use ssh_blocking::ssh_proto::log::LogLevel;
#[test]
fn debug() {
    let mut c = config(); c.transport.log = LogLevel::Packet; c.transport.hexdump=true;
    let server = TestServer::start_with(c, |o| o.on_log(|_, r| eprintln!("S {r}")));
    let mut cc = ssh_blocking::ssh_proto::config::ClientConfig::new(); cc.transport.log = LogLevel::Packet; cc.transport.hexdump = true;
    let client = Client::connect(server.handle.address(), options().config(cc).on_log(|r| eprintln!("C {r}"))).unwrap();
    assert!(client.auth_public_key("user", keys().1.clone()).unwrap().success());
    let o = client.exec("echo hi").output().unwrap();
    eprintln!("{o:?}");
}
