//! The Kubernetes manifests among themselves, and against the program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outrigger::config;
use serde_json::Value;

use super::files::{
    configuration, list, manifest, mounted, parsed, pod, port, runs_with, sidecar, text, texts, token, yaml,
};

fn mount_path(volume: &str) -> String {
    let container = sidecar();
    let mount = list(&container["volumeMounts"]).iter().find(|mount| mount["name"] == volume);
    text(&mount.unwrap_or_else(|| panic!("no mount of {volume}"))["mountPath"]).to_owned()
}

fn admin_port() -> u16 {
    port(text(&parsed(&configuration())["admin"]["listen"]))
}

#[test]
fn the_configurations_are_valid_and_without_a_warning() {
    let folder = crate::support::folder();
    let compose = super::files::root().join("deploy/compose/outrigger/outrigger.yml");
    for file in [mounted(folder.path()), compose] {
        let output = Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(" 0 warnings"), "{said}");
    }
}

#[test]
fn it_is_a_sidecar_that_mounts_its_configuration_as_a_directory() {
    let (pod, container) = (pod(), sidecar());
    assert_eq!(container["restartPolicy"], "Always");
    let mounts = list(&container["volumeMounts"]);
    assert!(mounts.iter().all(|mount| mount.get("subPath").is_none() && mount["readOnly"] == true), "{mounts:?}");
    let file = runs_with(&texts(&container["args"]));
    assert_eq!(file, Path::new(&mount_path("outrigger-config")).join("outrigger.yml"));
    let volume = |name| list(&pod["spec"]["volumes"]).iter().find(|volume| volume["name"] == name).expect(name);
    assert_eq!(volume("outrigger-config")["configMap"]["name"], manifest("configmap")["metadata"]["name"]);
    let monitored = &manifest("podmonitor")["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"];
    assert_eq!(volume("outrigger-secrets")["secret"]["secretName"], monitored["name"]);
    assert_eq!(token(), (mount_path("outrigger-secrets"), text(&monitored["key"]).to_owned()));
}

#[test]
fn probes_and_scrapes_go_to_the_admin_port() {
    let (pod, container, monitor) = (pod(), sidecar(), manifest("podmonitor"));
    let listen = parsed(&configuration())["admin"]["listen"].clone();
    assert!(text(&listen).starts_with("0.0.0.0:"), "probes come from outside of the pod: {listen}");
    let ports = list(&container["ports"]);
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0]["containerPort"], admin_port());
    let name = &ports[0]["name"];
    assert!(text(name).len() <= 15, "the name of a port has at most 15 characters");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], *name, "{probe}");
    }
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], text(&endpoint["path"])), (name, "/metrics"));
    let labels = &pod["metadata"]["labels"];
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[label], *value, "{label}");
    }
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(text(&annotations["prometheus.io/port"]), admin_port().to_string());
    assert_eq!(annotations["prometheus.io/path"], endpoint["path"]);
    let prometheus = yaml("deploy/prometheus.yml");
    let jobs = list(&prometheus["scrape_configs"]);
    assert_eq!(port(text(&jobs[0]["static_configs"][0]["targets"][0])), admin_port());
    assert!(list(&jobs[1]["relabel_configs"]).iter().any(|rule| rule["regex"] == *name), "{}", jobs[1]);
}

#[test]
fn the_application_finds_the_pool_on_loopback() {
    let pod = pod();
    let application = &pod["spec"]["containers"][0];
    let url = application["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "REDIS_URL");
    let listen = parsed(&configuration())["pools"]["cache"]["listen"].clone();
    assert_eq!(text(&url.unwrap()["value"]), format!("redis://{}", text(&listen)));
    assert!(text(&listen).starts_with("127.0.0.1:"));
    let compose = yaml("deploy/compose/compose.yml");
    let settings = yaml("deploy/compose/outrigger/outrigger.yml");
    let services = &compose["services"];
    assert_eq!(services["application"]["network_mode"], "service:outrigger");
    let listen = text(&settings["pools"]["cache"]["listen"]);
    let command = texts(&services["application"]["command"]).join(" ");
    assert!(command.contains(&format!("-h 127.0.0.1 -p {} ", port(listen))), "{command}");
    for server in list(&settings["pools"]["cache"]["servers"]) {
        let host = text(server).split(':').next().unwrap();
        assert!(services.get(host).is_some(), "no service {host}");
    }
}

#[test]
fn it_may_do_nothing_that_it_need_not() {
    let container = sidecar();
    let rights = &container["securityContext"];
    assert_eq!(rights["runAsNonRoot"], true);
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert_eq!(rights["readOnlyRootFilesystem"], true);
    assert_eq!(texts(&rights["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(rights["seccompProfile"]["type"], "RuntimeDefault");
    let dockerfile = super::files::read("Dockerfile");
    let user = format!("USER {}:{}\n", rights["runAsUser"], rights["runAsGroup"]);
    assert!(dockerfile.contains(&user), "the image has another user than {user}");
}

fn mebibytes(value: &Value) -> u64 {
    text(value).strip_suffix("Mi").and_then(|number| number.parse().ok()).expect("mebibytes")
}

#[test]
fn there_is_room_and_time_for_what_the_configuration_allows() {
    let folder = crate::support::folder();
    let settings = config::load_file(&mounted(folder.path())).expect("a configuration").settings;
    let (pod, container) = (pod(), sidecar());
    let limit = mebibytes(&container["resources"]["limits"]["memory"]) << 20;
    assert_eq!(settings.session_limits.max_buffered_bytes as u64 * 2, limit);
    assert!(container["resources"]["limits"].get("cpu").is_none());
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let stop = pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let drain = settings.pre_stop_delay + settings.drain_timeout + Duration::from_secs(2);
    assert!(grace > stop + drain.as_secs());
    let compose = yaml("deploy/compose/compose.yml");
    let grace = text(&compose["services"]["outrigger"]["stop_grace_period"]).trim_end_matches('s').parse::<u64>();
    assert!(grace.unwrap() > drain.as_secs());
}
