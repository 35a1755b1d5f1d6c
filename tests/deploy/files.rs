//! The shipped files, read.

use std::fs;
use std::path::{Path, PathBuf};

use outrigger::cli::{self, Command};
use serde_json::Value;

pub const KUBERNETES: &str = "deploy/kubernetes";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn yaml(path: impl AsRef<Path>) -> Value {
    parsed(&read(path))
}

pub fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// `deploy/kubernetes/NAME.yml`
pub fn manifest(name: &str) -> Value {
    yaml(Path::new(KUBERNETES).join(name).with_extension("yml"))
}

/// The pod of the example Deployment.
pub fn pod() -> Value {
    manifest("sidecar")["spec"]["template"].clone()
}

/// The container of Outrigger in it.
pub fn sidecar() -> Value {
    pod()["spec"]["initContainers"][0].clone()
}

/// The configuration in the ConfigMap.
pub fn configuration() -> String {
    text(&manifest("configmap")["data"]["outrigger.yml"]).to_owned()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

pub fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(text).collect()
}

/// The port at the end of an address or a URL.
pub fn port(address: &str) -> u16 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port: {address}"))
}

/// The file that these arguments have the proxy run with.
pub fn runs_with(arguments: &[&str]) -> PathBuf {
    let command = cli::parse_from(["outrigger"].iter().chain(arguments)).expect("arguments that the program takes");
    let Command::Run(options) = command else { panic!("{command:?}") };
    options.conf_file.expect("a file")
}

/// The configuration of the ConfigMap in a folder, with its secret, as they are mounted; the path of the file.
pub fn mounted(folder: &Path) -> PathBuf {
    let (mount, key) = token();
    fs::write(folder.join(key), "a-token\n").unwrap();
    let file = folder.join("outrigger.yml");
    fs::write(&file, configuration().replace(&mount, folder.to_str().unwrap())).unwrap();
    file
}

/// The folder and the name of the file with the token that the configuration names.
pub fn token() -> (String, String) {
    let admin = parsed(&configuration())["admin"].clone();
    let (folder, name) = text(&admin["token_file"]).rsplit_once('/').expect("a path");
    (folder.to_owned(), name.to_owned())
}
