//! Where a request goes: one closed set, so dispatch, metric labels and log levels are total.
//!
//! It stands with HTTP and not with the handlers because metrics and log lines take their label
//! from it.

use crate::http::request::Method;
use crate::labelled::labelled;

labelled! {
    /// Where a request goes.
    Route {
        /// Everything that is no other route.
        Echo "echo",
        /// A WebSocket on a path of the echo. It lasts as long as its client likes, so its time must
        /// not count as that of an echo.
        WebSocket "websocket",
        /// `/healthz` and `/livez`: is the process alive?
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
        /// `/upload`.
        Upload "upload",
        /// `/events`.
        Events "events",
        /// `/burn/{duration}`, where it is allowed.
        Burn "burn",
        /// `/admin/…`, where a token is set.
        Admin "admin",
        /// `/favicon.ico`, which browsers ask for by themselves.
        Favicon "favicon",
        /// `*`, the server as a whole.
        Asterisk "asterisk",
        /// The request was refused before it had a route.
        None "none",
    }
}

/// Which optional routes exist.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Whether `/admin` exists.
    pub admin: bool,
    /// Whether `/burn` exists.
    pub burn: bool,
    /// A prefix below which every route stands too, such as `/app`; empty without one.
    pub prefix: String,
}

impl Routes {
    /// The route of a path without its query, and the parameter after the route's own path.
    pub fn find<'p>(&self, path: &'p str) -> (Route, &'p str) {
        let below = path.strip_prefix(self.prefix.as_str());
        let path = below.filter(|rest| rest.starts_with('/')).unwrap_or(path);
        if path == "*" {
            return (Route::Asterisk, "");
        }
        // The authority of CONNECT has no slash and goes to the echo.
        let path = path.strip_prefix('/').unwrap_or_default();
        let (first, parameter) = match path.split_once('/') {
            Some((first, parameter)) => (first, Some(parameter)),
            None => (path, None),
        };
        let route = match (first, parameter) {
            // `/readyz/` is the probe too: the echo would respond 200 even if the server is not
            // ready.
            ("healthz" | "livez", None | Some("")) => Route::Healthz,
            ("readyz", None | Some("")) => Route::Readyz,
            ("metrics", None | Some("")) => Route::Metrics,
            ("version", None | Some("")) => Route::Version,
            ("upload", None | Some("")) => Route::Upload,
            ("events", None | Some("")) => Route::Events,
            ("favicon.ico", None) => Route::Favicon,
            ("status", Some(_)) => Route::Status,
            ("delay", Some(_)) => Route::Delay,
            ("bytes", Some(_)) => Route::Bytes,
            ("burn", Some(_)) if self.burn => Route::Burn,
            ("admin", _) if self.admin => Route::Admin,
            _ => return (Route::Echo, ""),
        };
        (route, parameter.unwrap_or_default())
    }
}

impl Route {
    /// The methods that the route takes, as the value of an `Allow` field.
    pub fn allow(self, parameter: &str) -> &'static str {
        match self {
            Route::Admin if parameter.starts_with("settings/") => "PUT, OPTIONS",
            Route::Healthz | Route::Readyz | Route::Metrics | Route::Version => READ,
            Route::Bytes | Route::Favicon | Route::Admin => READ,
            Route::Events | Route::WebSocket => "GET, OPTIONS",
            Route::Asterisk => "OPTIONS",
            Route::Echo | Route::Status | Route::Delay | Route::Burn => ANY,
            Route::Upload | Route::None => ANY,
        }
    }

    /// Whether the route takes the method. The echo also takes methods without a name here.
    pub fn takes(self, method: Method, parameter: &str) -> bool {
        let allow = self.allow(parameter);
        if allow == ANY {
            return !matches!(method, Method::Connect | Method::Trace);
        }
        allow.split(", ").any(|name| name == method.label())
    }

    /// Whether machines ask the route again and again: never delayed, never failed on purpose,
    /// logged at `debug`.
    pub fn is_probe(self) -> bool {
        matches!(self, Route::Healthz | Route::Readyz | Route::Metrics)
    }
}

const READ: &str = "GET, HEAD, OPTIONS";
const ANY: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let routes = Routes {
            admin: true,
            burn: true,
            prefix: "/app".to_owned(),
        };
        for (path, route, parameter) in [
            ("/", Route::Echo, ""),
            ("/any/path", Route::Echo, ""),
            ("/healthz", Route::Healthz, ""),
            ("/healthz/", Route::Healthz, ""),
            ("/livez", Route::Healthz, ""),
            ("/healthz/x", Route::Echo, ""),
            ("/Healthz", Route::Echo, ""),
            ("/readyz/", Route::Readyz, ""),
            ("/metrics", Route::Metrics, ""),
            ("/version", Route::Version, ""),
            ("/status/404", Route::Status, "404"),
            ("/status", Route::Echo, ""),
            ("/status/", Route::Status, ""),
            ("/delay/1s", Route::Delay, "1s"),
            ("/bytes/1KiB", Route::Bytes, "1KiB"),
            ("/upload", Route::Upload, ""),
            ("/events", Route::Events, ""),
            ("/burn/1s", Route::Burn, "1s"),
            ("/favicon.ico", Route::Favicon, ""),
            ("/favicon.ico/x", Route::Echo, ""),
            ("/admin", Route::Admin, ""),
            ("/admin/settings/ready", Route::Admin, "settings/ready"),
            ("/administrator", Route::Echo, ""),
            ("*", Route::Asterisk, ""),
            ("/app/healthz", Route::Healthz, ""),
            ("/app/status/404", Route::Status, "404"),
            ("/app", Route::Echo, ""),
            ("/apphealthz", Route::Echo, ""),
        ] {
            assert_eq!(routes.find(path), (route, parameter), "{path}");
        }
        for path in ["/admin/settings", "/admin", "/burn/1s", "/app/healthz"] {
            assert_eq!(Routes::default().find(path), (Route::Echo, ""), "{path}");
        }
    }

    #[test]
    fn methods() {
        for route in Route::ALL {
            for parameter in ["", "settings/ready"] {
                let takes = |method| route.takes(method, parameter);
                assert!(
                    !takes(Method::Trace) && !takes(Method::Connect),
                    "{}",
                    route.label()
                );
                for name in route.allow(parameter).split(", ") {
                    assert!(
                        Method::from_label(name).is_some_and(takes),
                        "{}",
                        route.label()
                    );
                }
            }
        }
        assert!(Route::Echo.takes(Method::Other, ""));
        assert!(!Route::Healthz.takes(Method::Other, ""));
        assert!(!Route::Metrics.takes(Method::Post, ""));
        assert!(!Route::Admin.takes(Method::Put, "settings"));
    }
}
