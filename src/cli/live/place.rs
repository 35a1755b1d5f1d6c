//! Where the running proxy is asked: its admin address, and the token that opens it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::cli::banner::reachable;
use crate::config::{self, AdminSettings, ListenAddress};

/// The default of `admin.listen`.
const USUAL_ADDRESS: &str = "127.0.0.1:22223";
const ADDRESS_VARIABLE: &str = "OUTRIGGER_ADMIN";
const TOKEN_VARIABLE: &str = "OUTRIGGER_ADMIN_TOKEN";

/// The flags that say where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Where {
    /// Configuration file whose admin address and token are used
    #[arg(short, long, alias = "conf-file", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Admin address of the running proxy, host:port or the path of a unix socket [env: OUTRIGGER_ADMIN] [default:
    /// 127.0.0.1:22223]
    #[arg(long, value_name = "ADDR", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub admin: Option<String>,
    /// File with the bearer token of the admin address [env: OUTRIGGER_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// An address and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub address: Address,
    pub token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

impl Where {
    /// A flag of its own goes over the file, that over the environment, and that over the default.
    pub fn place(&self) -> Result<Place, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let admin = self.config.as_deref().map(admin_of).transpose()?;
        let address = match (&self.admin, &self.config, &admin) {
            (Some(text), ..) => Address::parse(text)?,
            (None, Some(file), Some(admin)) => listens_at(admin, file)?,
            _ => variable(ADDRESS_VARIABLE)
                .map_or_else(|| Ok(Address::Tcp(USUAL_ADDRESS.into())), |a| Address::parse(&a))?,
        };
        let token = match (&self.token_file, admin.and_then(|admin| admin.token)) {
            (Some(file), _) => Some(token_in(file)?),
            (None, Some(token)) => Some(token.0),
            (None, None) => variable(TOKEN_VARIABLE),
        };
        Ok(Place { address, token })
    }
}

fn admin_of(file: &Path) -> Result<AdminSettings, Failure> {
    let loaded = config::load_file(file).map_err(|errors| Failure::Usage(errors.to_string()))?;
    Ok(loaded.settings.admin)
}

fn listens_at(admin: &AdminSettings, file: &Path) -> Result<Address, Failure> {
    match &admin.listen {
        Some(ListenAddress::Tcp { host, port }) => {
            let host = reachable(host);
            Ok(Address::Tcp(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }))
        }
        Some(ListenAddress::Unix { path, .. }) => Ok(Address::Unix(path.clone())),
        None => Err(Failure::Usage(format!("{}: its admin.listen is off", file.display()))),
    }
}

fn token_in(file: &Path) -> Result<String, Failure> {
    let refuse = |why: String| Failure::Usage(format!("token file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    match text.trim() {
        "" => Err(refuse("it is empty".into())),
        token => Ok(token.to_owned()),
    }
}

impl Address {
    /// As in `admin.listen`, and also as browsers show it.
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with(['/', '.']) {
            return Ok(Self::Unix(text.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Self::Tcp(address.to_owned())),
            _ => Err(Failure::Usage(format!(
                "admin address '{text}': allowed: host:port, as 127.0.0.1:22223, or the path of a unix socket"
            ))),
        }
    }

    /// For the `Host` header.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Unix(_) => "localhost",
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket() {
        let tcp = |text: &str| Address::Tcp(text.into());
        for (text, address) in [
            ("127.0.0.1:22223", tcp("127.0.0.1:22223")),
            ("[::1]:9", tcp("[::1]:9")),
            ("http://proxy.local:80/", tcp("proxy.local:80")),
            ("/run/outrigger.sock", Address::Unix("/run/outrigger.sock".into())),
            ("./admin", Address::Unix("./admin".into())),
        ] {
            assert_eq!(Address::parse(text).map_err(|error| error.to_string()), Ok(address));
        }
        for text in ["22223", ":22223", "host", "host:http", "host:65536", "https://h/"] {
            let error = Address::parse(text).map_err(|error| error.to_string()).unwrap_err();
            assert!(error.starts_with(&format!("admin address '{text}': allowed: host:port")), "{error}");
        }
    }
}
