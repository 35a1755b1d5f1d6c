//! The Dockerfile, and what names its image.

use std::collections::BTreeMap;
use std::process::Command;

use super::files::{KUBERNETES, list, manifest, read, root, runs_with, sidecar, text, yaml};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The instructions of each stage, lines that go on joined, without comments.
fn stages() -> Vec<Vec<(String, String)>> {
    let lines = read("Dockerfile");
    let lines = lines.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let mut stages = vec![Vec::new()];
    for line in lines.replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction");
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.last_mut().unwrap().push((instruction.to_owned(), rest));
    }
    stages
}

/// The last stage; each instruction but LABEL, ARG and COPY may be there once.
fn image() -> BTreeMap<String, String> {
    stages().pop().unwrap().into_iter().collect()
}

fn exec_form(instruction: &str) -> Vec<String> {
    serde_json::from_str(instruction).unwrap_or_else(|error| panic!("{instruction}: {error}"))
}

#[test]
fn the_image_is_the_program_and_nothing_else_and_not_root() {
    let image = image();
    assert_eq!(image["FROM"], "scratch");
    assert_eq!(image["COPY"], "--from=build /outrigger /outrigger");
    assert_eq!(image["USER"], "65532:65532");
    assert_eq!(exec_form(&image["ENTRYPOINT"]), ["/outrigger"]);
    assert!(image["LABEL"].contains("org.opencontainers.image.version=\"${VERSION}\""), "{}", image["LABEL"]);
}

#[test]
fn the_image_runs_with_the_file_where_the_manifests_mount_it() {
    let command = exec_form(&image()["CMD"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(runs_with(&command), runs_with(&super::files::texts(&sidecar()["args"])));
    let mounts = yaml("deploy/compose/compose.yml");
    let mount = text(&mounts["services"]["outrigger"]["volumes"][0]).to_owned();
    let (host, inside) = mount.trim_end_matches(":ro").split_once(':').expect("a mount");
    let file = runs_with(&command);
    assert_eq!(file.parent().unwrap().to_str(), Some(inside));
    assert!(root().join("deploy/compose").join(host).join(file.file_name().unwrap()).is_file());
}

#[test]
fn the_image_is_healthy_if_a_command_that_exists_says_so() {
    let health = &image()["HEALTHCHECK"];
    let command = exec_form(health.split_once("CMD ").expect("a command").1);
    assert_eq!(command[0], "/outrigger");
    let help = Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains(&format!("\n  {} ", command[1])), "{} is not in\n{help}", command[1]);
}

#[test]
fn the_image_is_built_with_a_rust_that_is_new_enough_and_the_locked_crates() {
    let stages = stages();
    let (_, rust) = stages[0].iter().find_map(|(_, rest)| rest.split_once("RUST=")).expect("the version of Rust");
    let number = |version: &str| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap()).collect() };
    assert!(number(rust) >= number(env!("CARGO_PKG_RUST_VERSION")), "{rust}");
    let commands: Vec<&str> = stages[1].iter().filter(|(i, _)| i == "RUN").map(|(_, rest)| rest.as_str()).collect();
    let builds = commands.iter().flat_map(|command| command.split("&&")).filter(|c| c.contains("cargo build"));
    assert!(builds.clone().count() == 2 && builds.clone().all(|build| build.contains(" --locked ")), "{commands:?}");
}

/// All that is copied is let through to the builder, and all that the sources include is copied.
#[test]
fn the_builder_gets_what_the_build_needs() {
    let ignore = read(".dockerignore");
    assert!(ignore.lines().any(|line| line == "*"), "{ignore}");
    let let_through: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let stages = stages();
    let copied = stages[1].iter().filter(|(instruction, _)| instruction == "COPY");
    let copied: Vec<&str> = copied.flat_map(|(_, rest)| rest.split(' ').rev().skip(1)).collect();
    for path in &copied {
        assert!(let_through.contains(path), "{path} is in the Dockerfile, but not in .dockerignore");
    }
    assert!(copied.contains(&"src") && copied.contains(&"Cargo.lock"), "{copied:?}");
    let mut included = 0;
    for (file, source) in sources(root().join("src")) {
        for rest in source.split("include_str!(\"").chain(source.split("include_bytes!(\"")).skip(1) {
            let Some((path, _)) = rest.split_once("\")") else { continue };
            let path = file.parent().unwrap().join(path).canonicalize();
            // A path that does not exist is in a comment: else nothing would compile.
            let Ok(path) = path else { continue };
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let there = copied.iter().any(|copy| path == *copy || path.starts_with(&format!("{copy}/")));
            assert!(there, "{path} is part of the program, but not copied by the Dockerfile");
            included += 1;
        }
    }
    assert!(included > 0, "nothing is included");
}

fn sources(folder: std::path::PathBuf) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(path));
        } else {
            let source = std::fs::read_to_string(&path).unwrap();
            found.push((path, source));
        }
    }
    found
}

#[test]
fn every_tag_of_the_image_is_this_version() {
    let name = format!("outrigger:{VERSION}");
    assert_eq!(text(&sidecar()["image"]), name);
    assert_eq!(text(&yaml("deploy/compose/compose.yml")["services"]["outrigger"]["image"]), name);
    let kustomization = yaml(format!("{KUBERNETES}/kustomization.yaml"));
    assert_eq!(text(&kustomization["images"][0]["name"]), "outrigger");
    assert_eq!(text(&kustomization["images"][0]["newTag"]), VERSION);
    for resource in list(&kustomization["resources"]) {
        manifest(text(resource).trim_end_matches(".yml"));
    }
    let made = Command::new("make").args(["--dry-run", "image", "BUILDER=podman"]).current_dir(root()).output();
    let made = String::from_utf8(made.expect("make").stdout).unwrap();
    assert!(made.contains(&format!("--tag {name} ")), "{made}");
}
