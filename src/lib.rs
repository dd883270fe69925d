//! A tiny HTTP/1.1 echo server for Kubernetes.
pub mod text;
