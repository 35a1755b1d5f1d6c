use super::*;
use crate::protocol::redis::commands::ProxyCommand;
pub(super) fn is_allowed_before_auth(_c: &Command) -> bool { false }
impl Request<'_, '_> {
    pub(super) fn answer_locally(&mut self, _w: ProxyCommand) -> Step { self.answer(|o, _| o.extend_from_slice(reply::PONG)) }
}
