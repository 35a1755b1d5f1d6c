//! One attempt to resolve one name: /etc/hosts, then DNS with the system's configuration, or one name server's.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use tokio::time::timeout;

/// The whole attempt, with every search domain and every name server.
const PATIENCE: Duration = Duration::from_secs(10);
/// One question to one name server. The system's default of 5 s is for programs that ask once.
const ONE_QUESTION: Duration = Duration::from_secs(2);
/// Most attempts at one question.
const ATTEMPTS: usize = 3;
/// For what comes without a TTL: /etc/hosts and getaddrinfo.
const NO_TTL: Duration = Duration::from_secs(30);

const HOSTS: &str = "/etc/hosts";

/// The addresses of a name, at least one.
#[derive(Debug)]
pub(super) struct Answer {
    pub addresses: Vec<IpAddr>,
    /// How long they are good for.
    pub ttl: Duration,
}

/// Where names are looked up.
pub(super) struct Lookup {
    /// Asked alone; `None`: those of the system.
    pub server: Option<SocketAddr>,
    sources: Mutex<Option<Arc<Sources>>>,
}

/// What was made of the system's files, and from which.
struct Sources {
    files: [Option<SystemTime>; 2],
    /// /etc/hosts as it is.
    hosts: String,
    /// `None`: the system's configuration cannot be used, getaddrinfo is asked.
    dns: Option<TokioResolver>,
}

impl Lookup {
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server, sources: Mutex::default() }
    }

    /// Looks up the addresses of a host name.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn ask(&self, host: &str) -> Result<Answer, String> {
        let sources = self.sources();
        if let Some(answer) = in_hosts(&sources.hosts, host) {
            return Ok(answer);
        }
        let answer = async {
            match &sources.dns {
                Some(dns) => in_dns(dns, host).await,
                None => in_system(host).await,
            }
        };
        let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
        let answer = timeout(PATIENCE, answer).await.map_err(late)??;
        if answer.addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(answer) }
    }

    /// The files are read again when they have changed.
    fn sources(&self) -> Arc<Sources> {
        let files = modified();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sources {
            Some(read) if read.files == files => read.clone(),
            _ => sources.insert(Arc::new(self.read(files))).clone(),
        }
    }

    fn read(&self, files: [Option<SystemTime>; 2]) -> Sources {
        let dns = match self.server {
            Some(server) => one_server(server),
            None => system(),
        };
        if let Err(error) = &dns {
            tracing::info!(%error, "the system's name servers are not known, names are left to getaddrinfo");
        }
        Sources { files, hosts: fs::read_to_string(HOSTS).unwrap_or_default(), dns: dns.ok() }
    }
}

/// When the system's files were last changed.
fn modified() -> [Option<SystemTime>; 2] {
    [HOSTS, "/etc/resolv.conf"].map(|file| fs::metadata(file).ok()?.modified().ok())
}

fn system() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    adjust(builder.options_mut());
    builder.build()
}

/// Asks this server alone, for names as they stand: search domains belong to the system's name servers.
fn one_server(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
    name_server.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    adjust(builder.options_mut());
    builder.build()
}

fn adjust(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Whoever asks again wants to know what is true now.
    options.cache_size = 0;
    // They were looked at before.
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = options.timeout.min(ONE_QUESTION);
    options.attempts = options.attempts.min(ATTEMPTS);
}

/// A name that has a line in /etc/hosts has the addresses of its lines and no others, as with the C library. Its lines
/// are an address and names; `#` begins a comment.
fn in_hosts(hosts: &str, host: &str) -> Option<Answer> {
    let wanted = host.strip_suffix('.').unwrap_or(host);
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.strip_suffix('.').unwrap_or(word).eq_ignore_ascii_case(wanted)).then_some(address)
    };
    let addresses: Vec<IpAddr> = hosts.lines().filter_map(address).collect();
    (!addresses.is_empty()).then_some(Answer { addresses, ttl: NO_TTL })
}

async fn in_dns(dns: &TokioResolver, host: &str) -> Result<Answer, String> {
    let name = dns_name(host)?;
    let found = dns.lookup_ip(name).await.map_err(|e| in_words(&e))?;
    let ttl = found.valid_until().saturating_duration_since(Instant::now());
    Ok(Answer { addresses: found.iter().collect(), ttl })
}

/// Not as strict as host names are meant to be: Docker Compose makes some with underscores.
fn dns_name(host: &str) -> Result<Name, String> {
    Name::from_str_relaxed(host).map_err(|e| e.to_string())
}

async fn in_system(host: &str) -> Result<Answer, String> {
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|e| e.to_string())?;
    Ok(Answer { addresses: found.map(|address| address.ip()).collect(), ttl: NO_TTL })
}

fn in_words(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            "no such name (NXDOMAIN)".to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => "the name has no address".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server's answer was: {code}"),
        NetError::Timeout => "no answer from the name server".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_hosts_file_has_all_of_its_addresses_there() {
        let hosts = "\
            # 10.0.0.1 cache\n127.0.0.1 localhost\n::1 localhost ip6\nfe80::1%lo0 localhost\n\n\
            10.0.0.7\tCache.test my_cache_1 # cache\n10.0.0.8 \t cache.test.\n10.0.0.9 cache.tests";
        let of = |host| in_hosts(hosts, host).map(|a| a.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        assert_eq!(of("localhost"), Some(vec!["127.0.0.1".to_owned(), "::1".to_owned()]));
        assert_eq!(of("cache.TEST"), Some(vec!["10.0.0.7".to_owned(), "10.0.0.8".to_owned()]));
        assert_eq!(of("cache.test."), of("cache.TEST"));
        assert_eq!(of("my_cache_1"), Some(vec!["10.0.0.7".to_owned()]));
        assert_eq!(of("cache"), None);
    }

    #[tokio::test]
    async fn without_a_usable_configuration_getaddrinfo_is_asked() {
        let sources = Sources { files: modified(), hosts: String::new(), dns: None };
        let lookup = Lookup { server: None, sources: Mutex::new(Some(Arc::new(sources))) };
        let answer = lookup.ask("localhost").await.unwrap();
        assert!(answer.addresses.iter().all(IpAddr::is_loopback) && answer.ttl == NO_TTL, "{answer:?}");
        assert!(lookup.ask("no such name").await.is_err());
    }

    #[test]
    fn names_with_underscores_are_names() {
        assert!(dns_name("my_project_redis_1").is_ok_and(|name| !name.is_fqdn()));
        assert!(dns_name("_redis.test.").is_ok_and(|name| name.is_fqdn()));
        assert!(dns_name("a..b").is_err());
    }
}
