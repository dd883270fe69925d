//! The one request that all figures are measured with, in the comparison as in the counted tests.

/// What a browser behind a proxy sends: 464 bytes, 10 fields. Both forms have the same length.
const KEEP_ALIVE: &str = "GET /cart?item=42&from=search HTTP/1.1\r\n\
    Host: shop.example.org:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: image/avif,image/webp,image/png,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, br\r\n\
    Cookie: session=5f0c2d1be9a84763; theme=dark\r\n\
    X-Forwarded-For: 198.51.100.77\r\n\
    X-Forwarded-Proto: https\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    Connection: keep-alive\r\n\r\n";
const _: () = assert!(KEEP_ALIVE.len() == 464);

/// The request; `target` takes the place of the usual one.
pub(crate) fn request(closes: bool, target: Option<&str>) -> String {
    let request = match target {
        Some(target) => KEEP_ALIVE.replacen("/cart?item=42&from=search", target, 1),
        None => KEEP_ALIVE.to_owned(),
    };
    if closes {
        request.replace("Connection: keep-alive", "Connection: close     ")
    } else {
        request
    }
}
