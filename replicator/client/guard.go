package client

import (
	"encoding/binary"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guard decides whether a request may be written now. An error keeps the request, or the rest of it, from the broker and closes the
// connection. A guard is called right before each write, where nothing waits any more: kgo may hold a request back for seconds, while it
// dials, logs in, or observes a quota.
type Guard func(key kmsg.Key) error

// guardedConn asks its guard before each part of a request. A broker does nothing with a part of a request, so a request whose last part was
// refused has no effect. Kgo writes each request in one call.
type guardedConn struct {
	net.Conn
	guard Guard
}

// guardedPart is how much is written before the guard is asked again.
const guardedPart = 256 << 10

// Write implements [net.Conn].
func (c *guardedConn) Write(request []byte) (written int, err error) {
	key := keyOf(request)
	for {
		if err := c.guard(key); err != nil {
			_ = c.Conn.Close() // of no use any more: the broker would take the next request for the rest of this one
			return written, err
		}
		n, err := c.Conn.Write(request[written:min(len(request), written+guardedPart)])
		written += n
		if err != nil || written == len(request) {
			return written, err
		}
	}
}

// keyOf returns the API key of a request: after its length in 4 bytes, it begins with the key in 2. No request is shorter.
func keyOf(request []byte) kmsg.Key {
	if len(request) < 6 {
		return -1
	}
	return kmsg.Key(binary.BigEndian.Uint16(request[4:]))
}
