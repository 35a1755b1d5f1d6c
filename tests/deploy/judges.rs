//! The tools that judge such files accept ours, and notice when something is wrong with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::files::{KUBERNETES, read, root};
use crate::need;
use crate::support::process::{program, say_skipped};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The Python that has a module, if there is one. In CI too it is welcome, not required.
fn python_with(module: &str) -> Option<Command> {
    let python = std::env::var_os("OUTRIGGER_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let can = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        say_skipped(&format!("no Python, or none with {module}"));
        return None;
    }
    Some(Command::new(python))
}

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "there is no {from}");
    text.replace(from, to)
}

#[test]
fn kubernetes_takes_the_manifests() {
    let folder = crate::support::folder();
    let judge = |file: &Path| {
        let mut python = python_with("kubernetes_validate")?;
        Some(python.args(["-m", "kubernetes_validate", "--strict"]).arg(file).output().unwrap())
    };
    for name in ["configmap.yml", "sidecar.yml"] {
        let output = need!(judge(&root().join(KUBERNETES).join(name)));
        let said = said(&output);
        // Where it knows no schema it warns, and goes on.
        assert!(output.status.success() && said.contains("passed") && !said.contains("WARN"), "{said}");
    }
    let sidecar = read(Path::new(KUBERNETES).join("sidecar.yml"));
    for (right, wrong) in [("restartPolicy:", "restartPolcy:"), ("containerPort: 22223", "containerPort: admin")] {
        let file = folder.path().join("wrong.yml");
        fs::write(&file, changed(&sidecar, right, wrong)).unwrap();
        let output = need!(judge(&file));
        assert!(!output.status.success(), "{wrong} was accepted: {}", said(&output));
    }
}

#[test]
fn compose_takes_the_compose_file() {
    let judge = |text: &str| {
        let mut python = python_with("compose_spec")?;
        let script =
            "import sys; from compose_spec import PyCompose; print(PyCompose.from_yaml(sys.argv[1]).service_names())";
        Some(python.args(["-c", script, text]).output().unwrap())
    };
    let compose = read("deploy/compose/compose.yml");
    let output = need!(judge(&compose));
    assert!(output.status.success() && said(&output).contains("'outrigger'"), "{}", said(&output));
    for (right, wrong) in [("read_only:", "readonly:"), ("service_healthy", "healthy")] {
        let output = need!(judge(&changed(&compose, right, wrong)));
        assert!(!output.status.success(), "{wrong} was accepted: {}", said(&output));
    }
}

#[test]
fn prometheus_takes_the_jobs() {
    let promtool = need!(program("promtool"));
    let folder = crate::support::folder();
    let token = folder.path().join("token");
    fs::write(&token, "a token").unwrap();
    let judge = |text: &str| {
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, text).unwrap();
        Command::new(&promtool).args(["check", "config"]).arg(file).output().unwrap()
    };
    // Debian's has no discovery in Kubernetes; its two lines are all that it does not see.
    let discovery = "    kubernetes_sd_configs:\n      - role: pod\n";
    let text = changed(&read("deploy/prometheus.yml"), discovery, "    static_configs: []\n");
    let text = changed(&text, "/etc/prometheus/outrigger-token", token.to_str().unwrap());
    let text = changed(&text, "/etc/prometheus/outrigger", root().join("dashboards").to_str().unwrap());
    let output = judge(&text);
    assert!(output.status.success(), "{}", said(&output));
    let output = judge(&changed(&text, "action: keep", "action: kept"));
    assert!(!output.status.success(), "{}", said(&output));
}

/// With the program of this build in place of the one that will be installed.
#[test]
fn systemd_takes_the_unit() {
    let Some(analyze) =
        ["/usr/bin/systemd-analyze", "/bin/systemd-analyze"].iter().map(PathBuf::from).find(|f| f.is_file())
    else {
        // Not where systemd is not, which is where most containers are.
        return say_skipped("no systemd-analyze");
    };
    let folder = crate::support::folder();
    let unit = changed(&read("deploy/outrigger.service"), "/usr/bin/outrigger", env!("CARGO_BIN_EXE_outrigger"));
    let judge = |text: &str| {
        let file = folder.path().join("outrigger.service");
        fs::write(&file, text).unwrap();
        said(&Command::new(&analyze).args(["verify", "--man=no"]).arg(file).output().unwrap())
    };
    assert_eq!(judge(&unit), "");
    assert!(judge(&changed(&unit, "DynamicUser=yes", "DynamicUsers=yes")).contains("DynamicUsers"));
}
