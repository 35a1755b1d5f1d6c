//! The run: steps as the input says, then everything comes to its end.

use std::rc::Rc;
use std::sync::Arc;

use outrigger::io::Pass;
use outrigger::session::Common;
use tokio::task::spawn_local;

use super::choices::Choices;
use super::client::Client;
use super::fixture::{self, Plan, Proxy};
use super::ledger::Ledger;
use super::server::{Mischief, Server};

/// Most steps of one run, so that long inputs take no longer.
const MOST_STEPS: usize = 400;
/// Most clients of one run, those that have left included.
const MOST_CLIENTS: usize = 6;
/// Passes without any progress after which nothing more will come.
const PATIENCE: usize = 20;

struct Run {
    proxy: Proxy,
    ledger: Ledger,
    servers: Vec<Server>,
    clients: Vec<Client>,
}

pub async fn run(plan: &Plan, pass: &Rc<Pass>, common: Arc<Common>, choices: &mut Choices<'_>) {
    let (proxy, listeners) = Proxy::start(plan, pass, common);
    let ledger = Ledger::new(proxy.pool.clone(), proxy.limits().clone(), plan);
    let server = |(index, listener)| Server::new(index, plan.protocol, listener);
    let servers = listeners.into_iter().enumerate().map(server).collect();
    let mut run = Run { proxy, ledger, servers, clients: Vec::new() };
    for _ in 0..1 + choices.below(3) {
        run.join(plan);
    }
    for _ in 0..MOST_STEPS {
        if choices.is_empty() {
            break;
        }
        run.step(plan, choices).await;
    }
    run.settle().await;
    run.bring_to_an_end().await;
    run.check_the_end().await;
}

impl Run {
    fn join(&mut self, plan: &Plan) {
        if self.clients.len() < MOST_CLIENTS {
            let client = Client::new(self.clients.len(), plan.protocol, self.proxy.connect());
            self.clients.push(client);
        }
    }

    async fn step(&mut self, plan: &Plan, choices: &mut Choices<'_>) {
        let what = choices.byte();
        let client = choices.below(self.clients.len());
        let client = &mut self.clients[client];
        let server = choices.below(self.servers.len());
        let server = &mut self.servers[server];
        let quiet = std::mem::take(&mut self.ledger.quiet);
        match what % 32 {
            0..=9 => {
                for _ in 0..1 + choices.below(6) {
                    client.compose(choices);
                }
                client.send(choices, &mut self.ledger);
            }
            10..=12 => client.send(choices, &mut self.ledger),
            13 | 14 => client.receive(choices, &self.ledger),
            15..=22 => {
                server.accept();
                server.read(&mut self.ledger);
                server.answer(choices);
            }
            24 | 25 if plan.changes => match choices.below(8) {
                0 => self.proxy.depart(),
                _ => self.proxy.change(plan, choices),
            },
            23..=25 => self.settle().await,
            26 => {
                client.damage(choices, &mut self.ledger);
                client.send(choices, &mut self.ledger);
            }
            27 => match choices.below(4) {
                0 => client.fall_silent(),
                1 => client.leave(),
                _ => self.join(plan),
            },
            28 => server.misbehave(Mischief::Close, choices, &self.proxy, &mut self.ledger),
            29 => server.misbehave(Mischief::Garbage, choices, &self.proxy, &mut self.ledger),
            30 => server.misbehave(Mischief::HalfClose, choices, &self.proxy, &mut self.ledger),
            _ => match choices.below(4) {
                0 => {
                    self.ledger.quiet = quiet;
                    server.misbehave(Mischief::Extra, choices, &self.proxy, &mut self.ledger);
                    self.ledger.quiet = false;
                }
                1 => self.surprise(choices).await,
                _ => server.misbehave(Mischief::OutOfStep, choices, &self.proxy, &mut self.ledger),
            },
        }
        self.proxy.arrive();
        for _ in 0..what >> 6 {
            fixture::one_pass().await;
        }
    }

    /// A reply that nothing asked for, at rest, and at the same time requests: it must not be taken for the reply to one.
    async fn surprise(&mut self, choices: &mut Choices<'_>) {
        for server in &mut self.servers {
            server.accept();
            server.read(&mut self.ledger);
            server.answer_all();
        }
        self.settle().await;
        // Sockets are looked at in the order in which they became ready.
        for what in choices.pick(&[["ask", "surprise"], ["surprise", "ask"]]) {
            if what == "surprise" {
                let server = choices.below(self.servers.len());
                self.servers[server].misbehave(Mischief::Extra, choices, &self.proxy, &mut self.ledger);
                continue;
            }
            for client in &mut self.clients {
                client.compose(choices);
                client.send_up_to(client.unsent(), &mut self.ledger);
            }
        }
        self.ledger.quiet = false;
    }

    /// The proxy has all the time it needs for what has happened.
    async fn settle(&mut self) {
        super::trace(|| "settle".into());
        fixture::settle().await;
        self.proxy.tick();
        fixture::settle().await;
        self.ledger.noticed();
        self.servers.iter_mut().for_each(Server::check_closed);
        assert!(self.proxy.is_alive(), "a connection's task has ended");
    }

    /// Servers answer, clients send and read everything.
    async fn bring_to_an_end(&mut self) {
        self.pump(|run| run.clients.iter().all(Client::is_settled)).await;
        self.clients.iter_mut().for_each(Client::fall_silent);
        let in_flight = |run: &Self| (0..run.servers.len()).map(|server| run.proxy.in_flight(server)).sum::<usize>();
        self.pump(|run| run.clients.iter().all(Client::is_over) && in_flight(run) == 0).await;
    }

    async fn pump(&mut self, done: impl Fn(&Self) -> bool) {
        let mut idle = 0;
        while !done(self) {
            let mut progress = false;
            for client in &mut self.clients {
                progress |= client.send_up_to(client.unsent(), &mut self.ledger);
                progress |= client.receive_up_to(usize::MAX, &self.ledger);
            }
            for server in &mut self.servers {
                progress |= server.accept();
                progress |= server.read(&mut self.ledger);
                progress |= server.answer_all();
            }
            fixture::one_pass().await;
            self.proxy.tick();
            idle = if progress { 0 } else { idle + 1 };
            assert!(idle < PATIENCE, "nothing moves any more:\n{}", self.describe());
        }
    }

    async fn check_the_end(self) {
        for client in self.clients {
            let session = client.into_session();
            session.replace(spawn_local(async {})).await.expect("a session panicked");
        }
        assert!(self.proxy.is_alive(), "a connection's task has ended");
        super::trace(|| self.proxy.describe());
        assert!(self.proxy.is_at_rest(), "all is over, and a count is not at 0");
    }

    fn describe(&self) -> String {
        let clients = self.clients.iter().map(Client::describe);
        let servers = (0..self.servers.len())
            .map(|server| format!("server {server}: {} in flight", self.proxy.in_flight(server)));
        clients.chain(servers).collect::<Vec<_>>().join("\n")
    }
}
