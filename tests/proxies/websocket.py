"""WebSocket clients with Python's `websockets` and `wsproto`, for check.py: websocket.py websockets|wsproto HOST PORT

The description, text, binary, fragments, a ping and a close have to arrive as they would without a proxy.
"""
import json
import socket
import sys

LIMIT = 30  # seconds for each answer
TEXT, BINARY, PIECES = "Müller €", b"\xff" * 70_000, ["M", "ü", "ller"]


def with_websockets(host, port):
    from websockets.sync.client import connect
    with connect(f"ws://{host}:{port}/chat", open_timeout=LIMIT, compression=None) as s:
        assert json.loads(s.recv(LIMIT))["target"] == "/chat"
        for sent, whole in ((TEXT, TEXT), (BINARY, BINARY), (PIECES, "".join(PIECES))):
            s.send(sent)
            assert s.recv(LIMIT) == whole, sent[:10]
        assert s.ping("are you there").wait(LIMIT)
        s.close(3001, "bye")
        assert s.protocol.close_rcvd.code == 3001, s.protocol.close_rcvd


class WithWsproto:
    def __init__(self, host, port):
        from wsproto import ConnectionType, WSConnection, events
        self.events, self.connection = events, WSConnection(ConnectionType.CLIENT)
        self.socket = socket.create_connection((host, port), LIMIT)
        self.send(events.Request(host=f"{host}:{port}", target="/chat"))
        assert isinstance(self.next(), events.AcceptConnection)
        assert json.loads(self.message())["target"] == "/chat"
        for pieces in ([TEXT], [BINARY], PIECES):
            for n, piece in enumerate(pieces, 1):
                self.send(events.Message(data=piece, message_finished=n == len(pieces)))
            assert self.message() == pieces[0][:0].join(pieces), pieces[0][:10]
        self.send(events.Ping(payload=b"are you there"))
        pong = self.next()
        assert isinstance(pong, events.Pong) and pong.payload == b"are you there", pong
        self.send(events.CloseConnection(code=3001, reason="bye"))
        close = self.next()
        assert isinstance(close, events.CloseConnection) and close.code == 3001, close

    def send(self, event):
        self.socket.sendall(self.connection.send(event))

    def next(self):
        """The next event; reads until there is one."""
        while True:
            for event in self.connection.events():
                return event
            self.connection.receive_data(self.socket.recv(65536) or None)

    def message(self):
        whole = None
        while True:
            event = self.next()
            whole = event.data if whole is None else whole + event.data
            if event.message_finished:
                return bytes(whole) if isinstance(whole, bytearray) else whole


{"websockets": with_websockets, "wsproto": WithWsproto}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
