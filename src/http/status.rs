//! The final status codes and their reason phrases.
//!
//! The table is IANA's registry of HTTP status codes. Metrics count registered codes by number and
//! all others as one, so that no client can make series without end.

/// A final status code, from 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub(super) u16);

#[rustfmt::skip]
const REGISTERED: [(u16, &str); 58] = [
    (101, "Switching Protocols"),
    (200, "OK"), (201, "Created"), (202, "Accepted"), (203, "Non-Authoritative Information"),
    (204, "No Content"), (205, "Reset Content"), (206, "Partial Content"), (207, "Multi-Status"),
    (208, "Already Reported"), (226, "IM Used"), (300, "Multiple Choices"),
    (301, "Moved Permanently"), (302, "Found"), (303, "See Other"), (304, "Not Modified"),
    (305, "Use Proxy"), (307, "Temporary Redirect"), (308, "Permanent Redirect"),
    (400, "Bad Request"), (401, "Unauthorized"), (402, "Payment Required"), (403, "Forbidden"),
    (404, "Not Found"), (405, "Method Not Allowed"), (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"), (408, "Request Timeout"), (409, "Conflict"),
    (410, "Gone"), (411, "Length Required"), (412, "Precondition Failed"),
    (413, "Content Too Large"), (414, "URI Too Long"), (415, "Unsupported Media Type"),
    (416, "Range Not Satisfiable"), (417, "Expectation Failed"), (421, "Misdirected Request"),
    (422, "Unprocessable Content"), (423, "Locked"), (424, "Failed Dependency"),
    (425, "Too Early"), (426, "Upgrade Required"), (428, "Precondition Required"),
    (429, "Too Many Requests"), (431, "Request Header Fields Too Large"),
    (451, "Unavailable For Legal Reasons"), (500, "Internal Server Error"),
    (501, "Not Implemented"), (502, "Bad Gateway"), (503, "Service Unavailable"),
    (504, "Gateway Timeout"), (505, "HTTP Version Not Supported"),
    (506, "Variant Also Negotiates"), (507, "Insufficient Storage"), (508, "Loop Detected"),
    (510, "Not Extended"), (511, "Network Authentication Required"),
];

impl Status {
    #![allow(missing_docs, reason = "the reason phrase says what each is")]
    pub const OK: Status = Status(200);
    pub const BAD_REQUEST: Status = Status(400);
    pub const NOT_FOUND: Status = Status(404);
    pub const REQUEST_TIMEOUT: Status = Status(408);
    pub const INTERNAL_SERVER_ERROR: Status = Status(500);
    pub const SERVICE_UNAVAILABLE: Status = Status(503);
    /// The one interim code here (RFC 6455); it stands outside the range that clients can ask for.
    pub const SWITCHING_PROTOCOLS: Status = Status(101);

    /// No response was sent at all; log lines show it as 000.
    pub const NONE: Status = Status(0);

    /// How many values [`Status::index`] has.
    pub const INDICES: usize = REGISTERED.len() + 1;

    /// The status of a code from 200 to 599, registered or not.
    pub fn from_code(code: u16) -> Option<Status> {
        (200..600).contains(&code).then_some(Status(code))
    }

    /// The code.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty for a code that is not registered.
    pub fn reason(self) -> &'static str {
        REGISTERED
            .get(self.index())
            .map_or("", |(_, reason)| reason)
    }

    /// A small number for tables: one for each registered code, and the last for all others.
    pub fn index(self) -> usize {
        REGISTERED
            .binary_search_by_key(&self.0, |(code, _)| *code)
            .unwrap_or(REGISTERED.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::http::error::RequestError;

    #[test]
    fn statuses() {
        assert!(REGISTERED.is_sorted());
        assert_eq!(
            (Status::from_code(199), Status::from_code(600)),
            (None, None)
        );
        assert_eq!(Status::from_code(599).unwrap().index(), Status::INDICES - 1);
        for error in RequestError::ALL {
            assert!(!error.status().reason().is_empty(), "{}", error.label());
        }
        assert_eq!(
            Status::from_code(503).unwrap().reason(),
            "Service Unavailable"
        );
    }
}
