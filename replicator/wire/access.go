package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/milena-kafka/milena/replicator/client"
)

// Access is how the brokers of one cluster are connected to. All fields but Guard and Hooks are required.
type Access struct {
	client.Network
	// Address returns host:port of a broker, empty if it is unknown.
	Address func(broker int32) string
	// Guard is asked right before each part of a request is written; nil permits everything.
	Guard client.Guard
	// Hooks are told what a kgo client would tell them: connects, disconnects, requests, throttles.
	Hooks []kgo.Hook
	// Observe is called after each fetch and produce request.
	Observe func(request string, took time.Duration, err error)
	// Buffers are shared by all lines of a flow.
	Buffers *Buffers
}

const (
	// ResponseOverhead is how long a response may take beyond the timeout of its request, as with the kgo clients.
	responseOverhead = 2500 * time.Millisecond
	// IdleAfter is when a connection without requests is closed, below the brokers' connections.max.idle.ms of 10 min.
	idleAfter = 4 * time.Minute
	// MaxResponse is the size of a response in bytes that is a protocol error.
	maxResponse = 100 << 20
	// SoftwareName and softwareVersion identify the client to the broker (KIP-511).
	softwareName, softwareVersion = "milena", "1"
)

// dial opens a line to a broker: it connects, asks for the versions of requests, and logs in.
func (a *Access) dial(ctx context.Context, broker int32) (*line, error) {
	began := time.Now()
	meta := kgo.BrokerMetadata{NodeID: broker}
	l, err := a.connect(ctx, &meta)
	if err == nil {
		if err = l.introduce(ctx); err != nil {
			l.close(err)
		}
	}
	var conn net.Conn
	if l != nil {
		conn = l.conn
	}
	for _, h := range a.Hooks {
		if h, ok := h.(kgo.HookBrokerConnect); ok {
			h.OnBrokerConnect(meta, time.Since(began), conn, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (a *Access) connect(ctx context.Context, meta *kgo.BrokerMetadata) (*line, error) {
	address := a.Address(meta.NodeID)
	if address == "" {
		return nil, fmt.Errorf("the address of broker %d is unknown", meta.NodeID)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", meta.NodeID, err)
	}
	number, err := net.LookupPort("tcp", port) //nolint:noctx // a number is not looked up
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", meta.NodeID, err)
	}
	meta.Host, meta.Port = host, int32(number) //nolint:gosec // a port has 16 bits
	conn, err := a.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("unable to dial %s: %w", address, err)
	}
	return newLine(a, *meta, address, conn), nil
}

// introduce asks the broker for its versions and logs in.
func (l *line) introduce(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.requestVersions(ctx); err != nil {
		if errors.Is(err, io.EOF) && l.plain {
			err = fmt.Errorf("the broker closed the connection at the first request: is TLS missing? %w", err)
		}
		return err
	}
	return l.login(ctx)
}

// requestVersions learns the versions of requests that the broker supports. A broker before 2.4 answers an unknown version of the request
// with version 0, a later one also says which version it supports (KIP-511).
func (l *line) requestVersions(ctx context.Context) error {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = softwareName, softwareVersion
	for version := int16(3); ; version = 0 {
		request.Version = version
		response := kmsg.NewPtrApiVersionsResponse()
		response.Version = version
		raw, err := l.ask(ctx, request)
		if err != nil {
			return fmt.Errorf("request versions: %w", err)
		}
		body := raw.bytes
		if len(body) >= 2 && body[0] == 0 && int16(body[1]) == kerr.UnsupportedVersion.Code {
			response.Version = 0
		}
		err = response.ReadFrom(body)
		raw.release()
		switch {
		case err != nil:
			return fmt.Errorf("request versions: %w", err)
		case len(response.ApiKeys) <= 1 && response.ErrorCode == kerr.UnsupportedVersion.Code && version > 0:
			continue
		case response.ErrorCode != 0 && response.ErrorCode != kerr.UnsupportedVersion.Code:
			return fmt.Errorf("request versions: %w", kerr.ErrorForCode(response.ErrorCode))
		}
		l.versions = make(map[int16]int16, len(response.ApiKeys))
		for _, key := range response.ApiKeys {
			l.versions[key.ApiKey] = key.MaxVersion
		}
		return nil
	}
}

// setVersion sets the newest version of a request that both sides support.
func (l *line) setVersion(request kmsg.Request) error {
	newest, ok := l.versions[request.Key()]
	if !ok {
		return fmt.Errorf("broker %d does not support %s requests", l.meta.NodeID, kmsg.NameForKey(request.Key()))
	}
	request.SetVersion(min(newest, request.MaxVersion()))
	return nil
}

// login authenticates the connection, and again before the session ends (KIP-368). No other request is in flight.
func (l *line) login(ctx context.Context) error {
	mechanism := l.access.SASL
	if mechanism == nil {
		return nil
	}
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Mechanism = mechanism.Name()
	if err := l.setVersion(handshake); err != nil {
		return err
	}
	if handshake.Version < 1 {
		return fmt.Errorf("broker %d is too old: it does not support SaslAuthenticate requests", l.meta.NodeID)
	}
	var shaken kmsg.SASLHandshakeResponse
	if err := l.askFor(ctx, handshake, &shaken); err != nil {
		return fmt.Errorf("SASL handshake: %w", err)
	}
	if err := kerr.ErrorForCode(shaken.ErrorCode); err != nil {
		return fmt.Errorf("SASL handshake: %w", err)
	}
	return l.authenticate(ctx, mechanism)
}

// authenticate exchanges the messages of a mechanism with the broker until both sides are done.
func (l *line) authenticate(ctx context.Context, mechanism sasl.Mechanism) error {
	session, message, err := mechanism.Authenticate(ctx, l.address)
	if err != nil {
		return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
	}
	began, lifetime := time.Now(), time.Duration(0)
	for done := false; !done || len(message) > 0; {
		request := kmsg.NewPtrSASLAuthenticateRequest()
		request.SASLAuthBytes = message
		if err := l.setVersion(request); err != nil {
			return err
		}
		began = time.Now()
		var response kmsg.SASLAuthenticateResponse
		if err := l.askFor(ctx, request, &response); err != nil {
			return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
		}
		if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
			if response.ErrorMessage != nil && *response.ErrorMessage != "" {
				err = fmt.Errorf("%w: %s", err, *response.ErrorMessage)
			}
			return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
		}
		lifetime = time.Duration(min(response.SessionLifetimeMillis, maxSession.Milliseconds())) * time.Millisecond
		message = nil
		if !done {
			if done, message, err = session.Challenge(response.SASLAuthBytes); err != nil {
				return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
			}
		}
	}
	l.setExpiry(began, lifetime)
	return nil
}

// maxSession is longer than a session that matters. What a broker says beyond it could overflow a duration.
const maxSession = 365 * 24 * time.Hour

// setExpiry sets when the session must be renewed: a broker closes a connection that is used after the end of its session. The last tenth of the
// time is left out for clocks and for what is in flight, at least a second, but not more than half of it.
func (l *line) setExpiry(began time.Time, lifetime time.Duration) {
	l.expires = time.Time{}
	if lifetime > 0 {
		l.expires = began.Add(lifetime - min(lifetime/2, max(time.Second, lifetime/10)))
	}
}
