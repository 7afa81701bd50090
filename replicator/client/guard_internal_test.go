package client

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frame is a request with this API key, of size bytes.
func frame(key kmsg.Key, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(size-4))
	binary.BigEndian.PutUint16(b[4:], uint16(key))
	return b
}

// A host may fall asleep in the middle of a large request. The rest must not follow when it wakes.
func TestGuardEndsARequestInTheMiddle(t *testing.T) {
	client, broker := net.Pipe()
	refused := errors.New("refused")
	var asked []kmsg.Key
	c := &guardedConn{Conn: client, guard: func(key kmsg.Key) error {
		if asked = append(asked, key); len(asked) > 3 {
			return refused
		}
		return nil
	}}
	received := make(chan int, 1)
	go func() {
		n, _ := io.Copy(io.Discard, broker)
		received <- int(n)
	}()
	metadata, produce := frame(kmsg.Metadata, 100), frame(kmsg.Produce, 3*guardedPart)
	if n, err := c.Write(metadata); n != len(metadata) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(metadata), err)
	}
	n, err := c.Write(produce)
	if !errors.Is(err, refused) || n != 2*guardedPart {
		t.Errorf("wrote %d bytes, error %v", n, err)
	}
	if got, want := <-received, len(metadata)+2*guardedPart; got != want { // the connection is closed, or Copy would not return
		t.Errorf("the broker received %d bytes, want %d: an incomplete request", got, want)
	}
	if asked[0] != kmsg.Metadata || asked[1] != kmsg.Produce || asked[3] != kmsg.Produce {
		t.Errorf("the guard was asked about %v", asked)
	}
}
