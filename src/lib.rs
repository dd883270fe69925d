//! A tiny HTTP/1.1 echo server for Kubernetes.
pub mod body;
pub mod client;
pub mod config;
pub mod echo;
pub mod limits;
pub mod live;
pub mod request;
pub mod response;
pub mod route;
pub mod text;
