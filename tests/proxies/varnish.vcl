# Lines that end in "#? WORD" belong to one way of use; README.md beside this file tells the words.
#- -F -a 127.0.0.1:@port@ -f @file@ -n @dir@ -s malloc,32m
#- -p http_req_size=131072 -p http_req_hdr_len=65536 -p http_resp_size=131072 -p http_resp_hdr_len=65536 #? set
#- -p workspace_client=512k -p workspace_backend=512k #? set
vcl 4.1;
import directors;
probe ready { .url = "/readyz"; .interval = 200ms; .timeout = 1s; .window = 1; .threshold = 1; .initial = 1; } #? checks
backend a {
    .host = "127.0.0.1";
    .port = "@a@";
    .first_byte_timeout = 90s; #? set
    .between_bytes_timeout = 90s; #? set
    .probe = ready; #? checks
}
backend b { #? pair
    .host = "127.0.0.1"; #? pair
    .port = "@b@"; #? pair
    .probe = ready; #? checks
} #? pair
sub vcl_init {
    new echo = directors.round_robin();
    echo.add_backend(a);
    echo.add_backend(b); #? pair
}
sub vcl_recv {
    set req.backend_hint = echo.backend();
    if (req.http.Upgrade ~ "(?i)websocket") { return (pipe); } #? set
    return (pass); #? set
}
sub vcl_pipe { set bereq.http.Upgrade = req.http.Upgrade; set bereq.http.Connection = req.http.Connection; } #? set
