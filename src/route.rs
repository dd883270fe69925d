//! Where a request goes: one closed set, so that dispatch, metric labels and log levels are total matches.

use crate::request::Method;
use crate::text::labelled;

labelled! {
    /// Where a request goes.
    Route {
        /// Everything that is no other route.
        Echo "echo",
        /// `/healthz`: is the process alive?
        Healthz "healthz",
        /// `/readyz`: does it want requests?
        Readyz "readyz",
        /// `/metrics`, for Prometheus.
        Metrics "metrics",
        /// `/version`: what runs here?
        Version "version",
        /// `/status/{code}`.
        Status "status",
        /// `/delay/{duration}`.
        Delay "delay",
        /// `/bytes/{size}`.
        Bytes "bytes",
        /// `/admin/…`, where a token is set.
        Admin "admin",
        /// `*`, the server as a whole.
        Asterisk "asterisk",
        /// Refused before it had a route.
        None "none",
    }
}

impl Route {
    /// The route of a path without its query, and what follows the prefix of a route with a parameter.
    pub fn of(path: &str, with_admin: bool) -> (Route, &str) {
        let whole = match path {
            "/" => Route::Echo,
            "/healthz" => Route::Healthz,
            "/readyz" => Route::Readyz,
            "/metrics" => Route::Metrics,
            "/version" => Route::Version,
            "/admin" if with_admin => Route::Admin,
            "*" => Route::Asterisk,
            _ => return Route::of_prefix(path, with_admin),
        };
        (whole, "")
    }

    fn of_prefix(path: &str, with_admin: bool) -> (Route, &str) {
        for (prefix, route) in [
            ("/status/", Route::Status),
            ("/delay/", Route::Delay),
            ("/bytes/", Route::Bytes),
            ("/admin/", Route::Admin),
        ] {
            if let Some(parameter) = path.strip_prefix(prefix)
                && (route != Route::Admin || with_admin)
            {
                return (route, parameter);
            }
        }
        (Route::Echo, "")
    }

    /// The methods that the route takes, as the value of an `Allow` field.
    pub fn allow(self, parameter: &str) -> &'static str {
        match self {
            Route::Healthz | Route::Readyz | Route::Metrics | Route::Version | Route::Bytes => "GET, HEAD",
            Route::Admin if parameter.starts_with("settings/") => "PUT",
            Route::Admin => "GET, HEAD",
            Route::Asterisk => "OPTIONS",
            Route::Echo | Route::Status | Route::Delay | Route::None => "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH",
        }
    }

    /// Whether the route takes the method; the echo takes also those that have no name here.
    pub fn takes(self, method: Method, parameter: &str) -> bool {
        match self {
            Route::Echo | Route::Status | Route::Delay | Route::None => {
                !matches!(method, Method::Connect | Method::Trace)
            }
            _ => self.allow(parameter).split(", ").any(|name| name == method.label()),
        }
    }

    /// Whether the route is asked by machines again and again: never delayed, never failed, logged at `debug`.
    pub fn is_probe(self) -> bool {
        matches!(self, Route::Healthz | Route::Readyz | Route::Metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, route, parameter) in [
            ("/", Route::Echo, ""),
            ("/any/path", Route::Echo, ""),
            ("/healthz", Route::Healthz, ""),
            ("/healthz/", Route::Echo, ""),
            ("/Healthz", Route::Echo, ""),
            ("/readyz", Route::Readyz, ""),
            ("/metrics", Route::Metrics, ""),
            ("/version", Route::Version, ""),
            ("/status/404", Route::Status, "404"),
            ("/status", Route::Echo, ""),
            ("/delay/1s", Route::Delay, "1s"),
            ("/bytes/1KiB", Route::Bytes, "1KiB"),
            ("/admin", Route::Admin, ""),
            ("/admin/settings", Route::Admin, "settings"),
            ("/administrator", Route::Echo, ""),
            ("*", Route::Asterisk, ""),
        ] {
            assert_eq!(Route::of(path, true), (route, parameter), "{path}");
        }
        assert_eq!(Route::of("/admin/settings", false), (Route::Echo, ""));
        assert_eq!(Route::of("/admin", false), (Route::Echo, ""));
    }

    #[test]
    fn methods() {
        for route in Route::ALL {
            for parameter in ["", "settings/ready"] {
                let takes = |method| route.takes(method, parameter);
                assert!(!takes(Method::Trace) && !takes(Method::Connect), "{}", route.label());
                for name in route.allow(parameter).split(", ") {
                    assert!(Method::of_label(name).is_some_and(takes), "{} {name}", route.label());
                }
            }
        }
        assert!(Route::Echo.takes(Method::Other, ""));
        assert!(!Route::Healthz.takes(Method::Other, ""));
        assert!(!Route::Metrics.takes(Method::Post, ""));
        assert!(!Route::Admin.takes(Method::Put, "settings"));
    }
}
