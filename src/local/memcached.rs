//! placeholder
use super::server::{Engine, Flow};
use bytes::BytesMut;
pub struct MemcachedServer;
impl Engine for MemcachedServer {
    type Session = ();
    fn new(_: u64) -> Self {
        Self
    }
    fn session(&self) {}
    fn serve(&mut self, _: &mut (), _: &mut BytesMut, _: &mut BytesMut, _: i64) -> Flow {
        Flow::Close
    }
}
