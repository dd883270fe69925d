//! The page: the echo for a browser, as one HTML document that loads nothing.
//!
//! It shows the same facts as the other forms, and with its script what the same path gives when
//! it is asked again and again. Two things keep a hostile request from running a script in it: each
//! byte of the request passes through [`escape::html`], and the policy ([`POLICY`], CSP Level 3)
//! lets only the style and the script run whose hashes it names. Without a script the live part
//! stays hidden.

use crate::app::description::{Numbers, Sink};
use crate::app::notes::Notes;
use crate::app::{Exchange, description};
use crate::http::decimal;
use crate::observe::escape;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The value of `Content-Security-Policy` for the page. A test computes the hashes of the style and
/// of the script and compares.
pub const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-tMybqcb+mDaDfdOOf0wzQ6owMLdxxNLfJ9k6oN/MDK8='; \
    script-src 'sha256-7w+GRvzC+I0CSC9LBKDIbrgVvT+agXhk4TkOEWea394='; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const START: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>"#;

const LIVE: &str = r#"</section>
<section id="live" hidden>
<h2>Live</h2>
<p>Asks for this path as JSON again and again, each time over a new connection, at most six at a
time.</p>
<div id="controls"><button type="button" id="start">Start</button>
<label>Rate <input type="range" id="rate" min="1" max="10" value="5">
<span id="rate-shown">5 a second</span></label></div>
<dl id="counts">
<div><dt>requests</dt><dd id="asked">0</dd></div>
<div><dt>ok</dt><dd id="ok">0</dd></div>
<div><dt>lost</dt><dd id="lost">0</dd></div>
<div><dt>p50</dt><dd id="p50">–</dd></div>
<div><dt>p99</dt><dd id="p99">–</dd></div>
</dl>
<h3>Latencies since the start</h3>
<svg id="histogram" preserveAspectRatio="none" role="img" aria-label="Histogram of the latencies"></svg>
<div class="axis"><span>0</span><span id="half"></span><span id="most"></span></div>
<h3>Latency of the last requests, up to <span id="height">–</span></h3>
<svg id="line" preserveAspectRatio="none" role="img" aria-label="Latency of the last requests"></svg>
<h3>Who responded, the newest last</h3>
<div id="cells" role="img" aria-label="A cell for each of the last requests"></div>
<ul id="sources"></ul>
</section>
</main>
<footer><span>Change the responses:</span>
<a href="?echo-delay=50ms..250ms">?echo-delay=50ms..250ms</a>
<a href="?echo-status=200:90,503:10">?echo-status=200:90,503:10</a>
<a href="?">no query</a></footer>
<script>"#;

/// Puts out the description as an HTML document.
#[inline(never)]
pub fn html(exchange: &Exchange<'_>, numbers: &Numbers, notes: Notes, put: Sink<'_>) {
    let mut page = Page { put };
    let (method, target) = (exchange.request.method_text(), exchange.request.target());
    page.html(START);
    page.text(method);
    page.html(" ");
    page.text(target);
    page.html("</title>\n<style>");
    page.html(STYLE);
    page.html("</style>\n</head>\n<body>\n<header>\n<h1><b>");
    page.text(method);
    page.html("</b> ");
    page.text(target);
    page.html(
        "</h1>\n<p>The request as it arrived at httpserver</p>\n</header>\n<main>\n<section>\n",
    );
    page.facts(exchange, numbers);
    page.notes(exchange, notes);
    page.fields("Fields", &mut exchange.request.fields());
    page.fields(
        "Trailers",
        &mut description::trailers(exchange.body.trailers),
    );
    page.body(exchange);
    page.html(LIVE);
    page.html(SCRIPT);
    page.html("</script>\n</body>\n</html>\n");
}

/// Where the page goes.
struct Page<'p> {
    put: Sink<'p>,
}

impl Page<'_> {
    /// Puts out markup of our own.
    fn html(&mut self, markup: &'static str) {
        (self.put)(markup.as_bytes());
    }

    /// Puts out text that somebody else may have written.
    fn text(&mut self, text: impl AsRef<[u8]>) {
        escape::html(text.as_ref(), self.put);
    }

    fn facts(&mut self, exchange: &Exchange<'_>, numbers: &Numbers) {
        self.html("<h2>Request</h2>\n<dl>\n");
        for (name, value) in description::strings(exchange) {
            self.fact(name, value, "");
        }
        for (name, value, unit) in numbers {
            self.fact(name, &**value, unit);
        }
        for (name, value) in &exchange.app.identity.facts {
            self.fact(name, value, "");
        }
        self.html("</dl>\n");
    }

    fn fact(&mut self, name: &'static str, value: impl AsRef<[u8]>, unit: &'static str) {
        self.html("<div><dt>");
        self.html(name);
        self.html("</dt><dd>");
        self.text(value);
        self.html(unit);
        self.html("</dd></div>\n");
    }

    fn notes(&mut self, exchange: &Exchange<'_>, notes: Notes) {
        if notes.is_empty() {
            return;
        }
        self.html("<h2>Notes</h2>\n<ul class=\"notes\">\n");
        notes.for_each(exchange, |words, values| {
            self.html("<li>");
            for (words, value) in words.iter().zip(values) {
                self.text(words);
                self.text(value);
            }
            self.html("</li>\n");
        });
        self.html("</ul>\n");
    }

    fn fields<'a>(
        &mut self,
        title: &'static str,
        fields: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        let mut fields = fields.peekable();
        if fields.peek().is_none() {
            return;
        }
        self.html("<h2>");
        self.html(title);
        self.html("</h2>\n<table>\n");
        for (name, value) in fields {
            self.html("<tr><th scope=\"row\">");
            self.text(name);
            self.html("</th><td>");
            self.text(value);
            self.html("</td></tr>\n");
        }
        self.html("</table>\n");
    }

    fn body(&mut self, exchange: &Exchange<'_>) {
        let body = &exchange.body;
        if body.length == 0 {
            return;
        }
        // The parser of HTML drops a line end right after `<pre>`.
        self.html("<h2>Body</h2>\n<pre>\n");
        if str::from_utf8(body.bytes).is_ok() {
            self.text(body.bytes);
        } else {
            self.html("(");
            self.text(&*decimal::decimal(body.length));
            self.html(" bytes, not UTF-8)");
        }
        self.html("</pre>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use fastrand::Rng;

    use crate::app::{App, Body, ConnectionFacts, Host, Stage, handlers, notes};
    use crate::config::settings::Config;
    use crate::http::base64;
    use crate::http::date::Dates;
    use crate::http::request::Request;
    use crate::observe::diagnostics::Diagnostics;
    use crate::observe::log::Log;
    use crate::observe::metrics::Snapshot;

    /// A server that has nothing to do.
    struct NoHost;

    impl Host for NoHost {
        fn reached(&self, _: Stage) -> bool {
            false
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::default()
        }

        fn sleep(&self, duration: Duration, _: Stage) -> Duration {
            duration
        }

        fn with_core(&self, _: Duration, work: &mut dyn FnMut()) {
            work();
        }
    }

    /// The page for a request; `environment` is the value of each of `POD_NAME` and its like.
    fn page(head: &[u8], body: &[u8], trailers: &[u8], environment: &str) -> Vec<u8> {
        let log: &'static Log = Box::leak(Box::new(Log::gathering(Duration::ZERO)));
        let diagnostics = Diagnostics::new(log, false);
        let names = |_: &str| Some(environment.to_owned());
        let app = App::new(Config::default(), log, diagnostics, names).unwrap();
        let mut request = Request::default();
        assert!(request.parse(head, 1 << 20).unwrap().is_some());
        let exchange = Exchange {
            app: &app,
            host: &NoHost,
            settings: app.runtime(),
            request: &request,
            decision: &handlers::decide(&app, &app.runtime(), &request, false, &mut Rng::new()),
            body: Body {
                bytes: body,
                length: body.len() as u64,
                duration: Duration::ZERO,
                trailers,
            },
            client: "192.0.2.1",
            peer: "192.0.2.1:1",
            peer_trusted: false,
            local: "192.0.2.2:8080",
            request_id: b"id",
            dates: &Dates::default(),
            connection: ConnectionFacts::default(),
            delay: Duration::ZERO,
            close: false,
        };
        let mut page = Vec::new();
        let numbers = description::numbers(&exchange);
        html(&exchange, &numbers, notes::find(&exchange), &mut |bytes| {
            page.extend_from_slice(bytes);
        });
        page
    }

    /// The tags and other markup of a page, without its text, its style and its script.
    fn markup(page: &[u8]) -> String {
        let page = str::from_utf8(page).unwrap();
        let page = page.replace(STYLE, "").replace(SCRIPT, "");
        let tags = page.split('<').skip(1);
        let inside = tags.map(|tag| tag.split('>').next().unwrap_or_default());
        inside.collect::<Vec<_>>().join("><")
    }

    const PLAIN: &[u8] = b"GET //x HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";

    #[test]
    fn no_request_adds_markup() {
        let bytes = |from: u8, to: u8| (from..=to).filter(|byte| *byte != 0x7f);
        let attack = b"</title></pre><script>x</script>\"'><img src=x onerror=x>&lt;&#60;";
        let mut head = b"GET //".to_vec();
        let target = attack.iter().copied().chain(bytes(b'!', b'~'));
        head.extend(target.filter(|byte| !b" #".contains(byte)));
        head.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: ");
        head.extend_from_slice(attack);
        head.extend(bytes(b' ', 0xff));
        head.extend_from_slice(b"\r\n\r\n");
        let mut body = attack.to_vec();
        body.extend(0..=0x7f);
        let trailers = [b"T: ", &attack[..], b"\r\n"].concat();
        let hostile = page(&head, &body, &trailers, "</dd><script>x</script>");
        let plain = page(PLAIN, b"x", b"T: x\r\n", "pod");
        let note = markup(&hostile).matches("<li>").count();
        assert!(note > 1, "{note}");
        let one_note = markup(&hostile).replacen("<li></li>", "", note - 1);
        assert_eq!(one_note, markup(&plain));
        let shown = String::from_utf8_lossy(&hostile).into_owned();
        assert_eq!(shown.matches("&lt;script&gt;x&lt;/script&gt;").count(), 9);
        body.push(0xff);
        let shown = page(PLAIN, &body, b"", "");
        let told = format!("<pre>\n({} bytes, not UTF-8)</pre>", body.len());
        assert!(str::from_utf8(&shown).unwrap().contains(&told));
    }

    #[test]
    fn size() {
        let size = page(PLAIN, b"", b"", "pod").len();
        assert!(size <= 16 << 10, "{size}");
    }

    #[test]
    fn policy_names_the_hashes() {
        for (name, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let hash: String = base64::encode(&sha256(text.as_bytes())).collect();
            let source = format!("{name} 'sha256-{hash}'");
            assert!(POLICY.contains(&source), "the policy needs {source}");
            assert!(!text.contains("</") && !text.contains("<!--"), "{name}");
            assert!(!text.contains('\r'), "{name}");
            let page = page(PLAIN, b"", b"", "pod");
            assert!(
                str::from_utf8(&page)
                    .unwrap()
                    .contains(&format!(">{text}</s"))
            );
        }
    }

    #[test]
    fn sha256_of_the_standard() {
        let hex = |hash: [u8; 32]| {
            let bytes: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.concat()
        };
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(sha256(b"abc")), abc);
        let long = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(hex(sha256(&vec![b'a'; 1_000_000])), long);
    }

    /// The first 32 bits of the fractional part of a root of `number`.
    #[allow(clippy::cast_sign_loss, reason = "a root is not negative")]
    fn fraction(number: u32, root: fn(f64) -> f64) -> u32 {
        (root(number.into()).fract() * 4_294_967_296.0) as u32
    }

    /// SHA-256 (FIPS 180-4 section 6.2).
    fn sha256(message: &[u8]) -> [u8; 32] {
        let is_prime = |number: &u32| (2..*number).all(|divisor| !number.is_multiple_of(divisor));
        let primes: Vec<u32> = (2..312).filter(is_prime).collect();
        let mut state: [u32; 8] = std::array::from_fn(|i| fraction(primes[i], f64::sqrt));
        let mut padded = message.to_vec();
        padded.push(0x80);
        padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
        padded.extend((message.len() as u64 * 8).to_be_bytes());
        for block in padded.chunks(64) {
            let mut words: Vec<u32> = block
                .chunks(4)
                .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
                .collect();
            for i in 16..64 {
                let (a, b) = (words[i - 15], words[i - 2]);
                let a = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
                let b = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
                let sum = words[i - 16].wrapping_add(words[i - 7]);
                words.push(sum.wrapping_add(a).wrapping_add(b));
            }
            let mut turned = state;
            for (word, prime) in words.iter().zip(&primes) {
                turned = round(turned, word.wrapping_add(fraction(*prime, f64::cbrt)));
            }
            state = std::array::from_fn(|i| state[i].wrapping_add(turned[i]));
        }
        let mut hash = [0; 32];
        for (place, word) in hash.chunks_mut(4).zip(state) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        hash
    }

    #[allow(clippy::many_single_char_names, reason = "the standard's names")]
    fn round([a, b, c, d, e, f, g, h]: [u32; 8], addend: u32) -> [u32; 8] {
        let sum_e = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let first = h
            .wrapping_add(sum_e)
            .wrapping_add(choice)
            .wrapping_add(addend);
        let sum_a = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let second = sum_a.wrapping_add(majority);
        [
            first.wrapping_add(second),
            a,
            b,
            c,
            d.wrapping_add(first),
            e,
            f,
            g,
        ]
    }
}
