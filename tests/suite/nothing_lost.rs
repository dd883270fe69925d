//! Nothing that arrives is lost in the echo: field values that are not UTF-8, bodies of any bytes, and trailers.

use serde_json::{Value, json};

use crate::support::{Client, Server, find};

/// A POST with these field lines and this body, as JSON.
#[track_caller]
fn echoed(server: &Server, fields: &[u8], body: &[u8]) -> Value {
    let start = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    let request = [start.as_bytes(), fields, b"\r\n", body].concat();
    Client::new(server).call_raw(request).json()
}

/// The value of a field in the echo's list.
#[track_caller]
fn value<'a>(json: &'a Value, name: &str) -> &'a str {
    let pairs = json["headers"].as_array().expect("a list of pairs");
    let pair = pairs.iter().find(|pair| pair[0] == name);
    pair.and_then(|pair| pair[1].as_str())
        .unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// The reverse of base64 (RFC 4648), for canonical input.
#[track_caller]
fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(text.len() % 4, 0, "whole groups: {text}");
    let digits = text.trim_end_matches('=');
    assert!(text.len() - digits.len() <= 2, "{text}");
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes() {
        let digit = DIGITS.iter().position(|known| *known == digit);
        bits = bits << 6 | digit.expect("a digit of base64") as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    assert_eq!(bits, 0, "no bits are left: {text}");
    bytes
}

#[test]
fn a_field_value_stands_as_utf_8_or_as_iso_8859_1() {
    let server = Server::start(&[]);
    let fields = b"X-Latin: M\xfcller \xa9\r\nX-Utf: M\xc3\xbcller \xe2\x82\xac\r\nX-Mixed: \xc3\xbc\xff\r\nX-Tab: a\tb\r\nX-Empty:\r\n";
    let json = echoed(&server, fields, b"");
    assert_eq!(value(&json, "X-Latin"), "M\u{fc}ller \u{a9}");
    assert_eq!(value(&json, "X-Utf"), "M\u{fc}ller \u{20ac}");
    assert_eq!(value(&json, "X-Mixed"), "\u{c3}\u{bc}\u{ff}");
    assert_eq!(value(&json, "X-Tab"), "a\tb");
    assert_eq!(value(&json, "X-Empty"), "");
    // As text the head stands as it came, and the response's own head has the same bytes.
    let request = [&b"GET / HTTP/1.1\r\nHost: test\r\n"[..], fields, b"\r\n"].concat();
    let response = Client::new(&server).call_raw(request);
    assert!(find(&response.body, fields).is_some(), "{response}");
    assert_eq!(response.values("x-latin"), [b"M\xfcller \xa9"]);
}

#[test]
fn a_body_that_is_text_stands_as_text() {
    let server = Server::start(&[]);
    for body in [
        "",
        "hello",
        "M\u{fc}ller \u{1f980}\0\r\n\t\"\\</script>\u{2028}\u{7f}",
    ] {
        let json = echoed(&server, b"", body.as_bytes());
        assert_eq!(
            (&json["body"], &json["body_bytes"]),
            (&json!(body), &json!(body.len()))
        );
        assert!(json.get("body_base64").is_none(), "{json}");
    }
}

#[test]
fn a_body_that_is_not_text_stands_as_base64() {
    let server = Server::start(&[]);
    let every_byte: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for length in [1, 2, 3, 4, 255, 256, 1000] {
        let body = &every_byte[1000 - length..];
        let body = [b"\xff", body].concat();
        let json = echoed(&server, b"", &body);
        assert_eq!(
            (&json["body"], &json["body_bytes"]),
            (&Value::Null, &json!(length + 1))
        );
        let decoded = from_base64(json["body_base64"].as_str().expect("a text"));
        assert!(decoded == body, "{json}");
    }
    let response = Client::new(&server)
        .call_raw(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\na\xffb");
    assert!(
        response.text().ends_with("\r\n\r\n(3 bytes, not UTF-8)\n"),
        "{response}"
    );
}

#[test]
fn trailers_are_listed_and_are_no_fields() {
    let server = Server::start(&[]);
    let start = "POST / HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::new(&server);
    let ask = |client: &mut Client, rest: &[u8]| client.call_raw([start.as_bytes(), rest].concat());
    let response = ask(
        &mut client,
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum:  9 \r\nX-Name: M\xfcller\r\nX-Sum:\r\n\r\n",
    );
    let json = response.json();
    assert_eq!(
        json["trailers"],
        json!([["X-Sum", "9"], ["X-Name", "M\u{fc}ller"], ["X-Sum", ""]])
    );
    assert_eq!(json["body"], "abcde");
    let headers = json["headers"].as_array().expect("a list").iter();
    assert!(headers.clone().all(|pair| pair[0] != "X-Sum"), "{json}");
    assert!(response.values("x-sum").is_empty(), "{response}");
    // The trailers of one request are not those of the next.
    let next = ask(&mut client, b"0\r\n\r\n").json();
    assert_eq!(
        (&next["trailers"], &next["body_bytes"]),
        (&json!([]), &json!(0))
    );
}

/// The JSON is JSON, and what went in comes out, whatever bytes stand in target, values, trailers and body.
#[test]
fn whatever_goes_in_comes_out_of_the_json() {
    let server = Server::start(&[]);
    let mut random = fastrand::Rng::with_seed(15);
    let mut client = Client::new(&server);
    let is_value = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    let shown = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    for _ in 0..300 {
        let mut bytes = |most: usize| -> Vec<u8> {
            let length = random.usize(..most);
            (0..length).map(|_| random.u8(..)).collect()
        };
        let (raw, trailer, body) = (bytes(60), bytes(60), bytes(400));
        let clean = |raw: &[u8]| raw.iter().copied().filter(is_value).collect::<Vec<_>>();
        let (field, trailer) = (clean(&raw), clean(&trailer));
        let target: String = shown(&field).replace(
            |c: char| c.is_whitespace() || c == '#' || c.is_control(),
            "",
        );
        let request = [
            format!("POST /{target} HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\nX-Any: ")
                .as_bytes(),
            &field,
            b"\r\nTransfer-Encoding: chunked\r\n\r\n",
            format!("{:x}\r\n", body.len() + 1).as_bytes(),
            b"x",
            &body,
            b"\r\n0\r\nX-Any: ",
            &trailer,
            b"\r\n\r\n",
        ]
        .concat();
        let response = client.call_raw(&request);
        assert_eq!(
            response.status,
            200,
            "{}: {response}",
            request.escape_ascii()
        );
        let json = response.json();
        assert_eq!(value(&json, "X-Any"), shown(field.trim_ascii()));
        assert_eq!(
            json["trailers"],
            json!([["X-Any", shown(trailer.trim_ascii())]])
        );
        assert_eq!(json["target"], json!(format!("/{target}")));
        let whole = [b"x", &body[..]].concat();
        match json["body"].as_str() {
            Some(text) => assert!(text.as_bytes() == whole, "{json}"),
            None => assert!(
                from_base64(json["body_base64"].as_str().expect("a text")) == whole,
                "{json}"
            ),
        }
    }
}
