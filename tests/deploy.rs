//! What is shipped fits together: the image, the Kubernetes manifests, the compose file, the Prometheus jobs and the unit
//! agree with each other and with the program, and the tools that judge such files accept them.

#[path = "support/mod.rs"]
mod support;

mod deploy {
    pub mod files;
    mod image;
    mod judges;
    mod probes;
    mod sidecar;
}
