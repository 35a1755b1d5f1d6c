//! A scripted name server: UDP on loopback, addresses, refusals and silence.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is said about a name.
#[derive(Debug, Clone)]
pub enum Says {
    /// These addresses, in turns beginning with each, and their TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The same, so much later.
    Late(Vec<IpAddr>, u32, Duration),
    NxDomain,
    ServFail,
    Silence,
}

impl Says {
    pub fn addresses(addresses: &[&str], ttl: u32) -> Self {
        Self::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect(), ttl)
    }
}

/// A name that it was told nothing about does not exist.
#[derive(Default)]
struct Zone {
    names: HashMap<String, Says>,
    /// Questions for addresses of the fourth version, by name.
    asked: HashMap<String, usize>,
}

pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (zone, stop) = (Arc::<Mutex<Zone>>::default(), Arc::<AtomicBool>::default());
        let server = {
            let (zone, stop) = (zone.clone(), stop.clone());
            thread::spawn(move || serve(&socket, &zone, &stop))
        };
        Self { address, zone, stop, server: Some(server) }
    }

    /// From now on.
    pub fn says(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().names.insert(name.to_owned(), says);
    }

    /// How often the name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.lock().unwrap().asked.get(name).copied().unwrap_or_default()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line of a configuration that has the proxy ask here.
    pub fn resolver(&self) -> String {
        format!("resolver: \"{}\"\n", self.address)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"end", self.address));
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>, stop: &AtomicBool) {
    let mut buf = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut buf) {
        if stop.load(SeqCst) {
            return;
        }
        let Some(question) = Question::read(&buf[..length]) else { continue };
        let (says, turn) = {
            let mut zone = zone.lock().unwrap();
            let asked = zone.asked.entry(question.name.clone()).or_default();
            *asked += usize::from(question.kind == A);
            let turn = *asked;
            (zone.names.get(&question.name).cloned().unwrap_or(Says::NxDomain), turn)
        };
        let (reply, delay) = match says {
            Says::Silence => continue,
            Says::NxDomain => (question.reply(3, &[], 0), Duration::ZERO),
            Says::ServFail => (question.reply(2, &[], 0), Duration::ZERO),
            Says::Late(addresses, ttl, delay) => (question.reply(0, &addresses, ttl), delay),
            Says::Addresses(mut addresses, ttl) => {
                let turn = turn % addresses.len().max(1);
                addresses.rotate_left(turn);
                (question.reply(0, &addresses, ttl), Duration::ZERO)
            }
        };
        let socket = socket.try_clone().unwrap();
        let send = move || drop(socket.send_to(&reply, client));
        if delay.is_zero() {
            send();
        } else {
            thread::spawn(move || {
                thread::sleep(delay);
                send();
            });
        }
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// RFC 1035, section 4: the header is 12 bytes, then come the labels of the name, type and class.
struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// As it was sent.
    section: Vec<u8>,
}

impl Question {
    fn read(packet: &[u8]) -> Option<Self> {
        let (mut name, mut at) = (String::new(), 12);
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            name += &String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase();
            name.push('.');
            at += length;
        }
        let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
        let section = packet.get(12..at + 4)?.to_vec();
        Some(Self { id: [packet[0], packet[1]], name: name.trim_end_matches('.').to_owned(), kind, section })
    }

    fn reply(&self, code: u8, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(a) => (self.kind == A).then(|| a.octets().to_vec()),
                IpAddr::V6(a) => (self.kind == AAAA).then(|| a.octets().to_vec()),
            })
            .collect();
        // A response to a recursive query; one question, the records, nothing else.
        let mut reply = [&self.id[..], &[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]].concat();
        reply.extend(&self.section);
        for record in records {
            // The name is that at offset 12.
            reply.extend([0xc0, 12]);
            reply.extend(self.kind.to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(ttl.to_be_bytes());
            reply.extend((record.len() as u16).to_be_bytes());
            reply.extend(record);
        }
        reply
    }
}
