//! The authentication machines, as the spine sees them.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::SessionInfo;
use crate::auth::client::ClientAuth;
use crate::auth::server::ServerAuth;
use crate::config::{ClientConfig, ServerConfig};
use crate::connection::cx::Cx;
use crate::connection::event::{ClientEvent, ServerEvent};
use crate::connection::role::{AuthMachine, ClientRole, ServerRole};
use crate::error::Error;

impl AuthMachine<ClientRole> for ClientAuth {
    fn new(config: &Arc<ClientConfig>) -> Self {
        Self::new(config)
    }
    fn start(&mut self, cx: &mut Cx<'_, ClientEvent>) {
        self.start(cx);
    }
    fn handle(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, ClientEvent>,
    ) -> Result<(), Error> {
        self.handle(payload, session, cx)
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    fn is_waiting_for_peer(&self) -> bool {
        self.is_waiting_for_peer()
    }
    fn is_authenticated(&self) -> bool {
        self.is_authenticated()
    }
    fn user(&self) -> Option<&str> {
        self.user()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _: &mut Cx<'_, ClientEvent>) -> Result<(), Error> {
        Ok(())
    }
}

impl AuthMachine<ServerRole> for ServerAuth {
    fn new(config: &Arc<ServerConfig>) -> Self {
        Self::new(config)
    }
    fn start(&mut self, _: &mut Cx<'_, ServerEvent>) {
        self.start();
    }
    fn handle(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, ServerEvent>,
    ) -> Result<(), Error> {
        self.handle(payload, session, cx)
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    /// A server's login grace is absolute.
    fn is_waiting_for_peer(&self) -> bool {
        true
    }
    fn is_authenticated(&self) -> bool {
        self.is_authenticated()
    }
    fn user(&self) -> Option<&str> {
        self.user()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }
    fn handle_timeout(&mut self, cx: &mut Cx<'_, ServerEvent>) -> Result<(), Error> {
        self.handle_timeout(cx)
    }
}
