package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Hide makes the broker look like one that does not know these requests, for connections that are opened later: its answer to ApiVersions does not
// list them, and it closes the connection of a client that sends one, as brokers do. Such connections have no delay.
func (p *Proxy) Hide(keys ...kmsg.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hidden = keys
}

// filter knows the requests of one connection whose answers it changes.
type filter struct {
	hidden []kmsg.Key

	mu       sync.Mutex
	versions map[int32]int16 // of ApiVersions requests, by correlation id
}

// filter returns nil if nothing is hidden.
func (p *Proxy) filter() *filter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.hidden) == 0 {
		return nil
	}
	return &filter{hidden: p.hidden, versions: make(map[int32]int16)}
}

// pumpFrames forwards whole requests or responses until one end is closed or the client sends what is hidden.
func (l *link) pumpFrames(from, to *net.TCPConn, what direction, f *filter) {
	defer l.ended(what)
	for to != nil {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		l.proxy.await()
		var ok bool
		if what == requests {
			ok = f.note(frame)
		} else {
			frame, ok = f.change(frame)
		}
		if !ok {
			return
		}
		if _, err := to.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
			return
		}
	}
}

// note looks at a request. It returns false if the broker does not know it.
func (f *filter) note(frame []byte) bool {
	if len(frame) < 8 {
		return false
	}
	key := kmsg.Key(int16(binary.BigEndian.Uint16(frame)))
	if key == kmsg.ApiVersions {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.versions[int32(binary.BigEndian.Uint32(frame[4:]))] = int16(binary.BigEndian.Uint16(frame[2:]))
	}
	return !slices.Contains(f.hidden, key)
}

// change removes what is hidden from an answer to ApiVersions. It returns false if it cannot read it.
func (f *filter) change(frame []byte) ([]byte, bool) {
	if len(frame) < 4 {
		return nil, false
	}
	f.mu.Lock()
	correlation := int32(binary.BigEndian.Uint32(frame))
	version, ok := f.versions[correlation]
	delete(f.versions, correlation)
	f.mu.Unlock()
	if !ok {
		return frame, true
	}
	response := kmsg.NewPtrApiVersionsResponse()
	response.SetVersion(version)
	if response.ReadFrom(frame[4:]) != nil { // version 0, which answers a request of a version that the broker does not know
		response.SetVersion(0)
		if response.ReadFrom(frame[4:]) != nil {
			return nil, false
		}
	}
	response.ApiKeys = slices.DeleteFunc(response.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool {
		return slices.Contains(f.hidden, kmsg.Key(k.ApiKey))
	})
	return response.AppendTo(frame[:4:4]), true
}
