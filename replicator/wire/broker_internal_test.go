package wire

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
)

// link is the broker's end of a connection. A script reads requests from it and answers them, correctly or not.
type link struct {
	net.Conn
	in       *bufio.Reader
	versions map[kmsg.Key]int16 // newest version by key
}

// received is a request as it arrived.
type received struct {
	key, version int16
	number       int32
	frame, body  []byte // with and without length and header
}

func newLink(conn net.Conn) *link {
	return &link{conn, bufio.NewReader(conn), map[kmsg.Key]int16{
		kmsg.Produce: 13, kmsg.Fetch: 18, kmsg.SASLHandshake: 1, kmsg.ApiVersions: 3, kmsg.SASLAuthenticate: 2,
	}}
}

// next reads a request. An error means that the connection ended.
func (l *link) next() (r received, err error) {
	var length [4]byte
	if _, err := io.ReadFull(l.in, length[:]); err != nil {
		return r, err
	}
	r.frame = append(length[:], make([]byte, binary.BigEndian.Uint32(length[:]))...)
	if _, err := io.ReadFull(l.in, r.frame[4:]); err != nil {
		return r, err
	}
	b := kbin.Reader{Src: r.frame[4:]}
	r.key, r.version, r.number = b.Int16(), b.Int16(), b.Int32()
	b.NullableString()
	if flexible(r.key, r.version) {
		kmsg.SkipTags(&b)
	}
	r.body = b.Src
	return r, b.Complete()
}

func flexible(key, version int16) bool {
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	return request.IsFlexible()
}

// decode returns the request as kmsg reads it.
func (r received) decode() (kmsg.Request, error) {
	request := kmsg.RequestForKey(r.key)
	request.SetVersion(r.version)
	return request, request.ReadFrom(r.body)
}

// frame returns the bytes of a response to a request.
func (r received) response(response kmsg.Response) []byte {
	response.SetVersion(r.version)
	return r.frameOf(response.AppendTo(nil))
}

// frameOf returns a response with this body.
func (r received) frameOf(body []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(r.number))
	if flexible(r.key, r.version) && r.key != kmsg.ApiVersions.Int16() {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// answer sends the response to a request.
func (l *link) answer(r received, response kmsg.Response) {
	_, _ = l.Write(r.response(response))
}

// answerVersions answers the first request of a connection.
func (l *link) answerVersions() {
	r, err := l.next()
	if err != nil {
		return
	}
	l.answer(r, l.supported())
}

func (l *link) supported() *kmsg.ApiVersionsResponse {
	response := kmsg.NewPtrApiVersionsResponse()
	for key, version := range l.versions {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key.Int16(), version
		response.ApiKeys = append(response.ApiKeys, k)
	}
	return response
}

// answerAll answers every request until the connection ends. Each response to a produce request has the number of the request among those of this
// connection as its base offset.
func (l *link) answerAll() {
	for n := int64(0); ; n++ {
		r, err := l.next()
		if err != nil {
			return
		}
		l.answer(r, produced(n))
	}
}

// produced is a response to a produce request of one partition.
func produced(offset int64) *kmsg.ProduceResponse {
	p := kmsg.NewProduceResponseTopicPartition()
	p.BaseOffset = offset
	t := kmsg.NewProduceResponseTopic()
	t.Partitions = append(t.Partitions, p)
	response := kmsg.NewPtrProduceResponse()
	response.Topics = append(response.Topics, t)
	return response
}

// fetched is a response to a fetch request, with these batches.
func fetched(batches []byte) *kmsg.FetchResponse {
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = batches
	t := kmsg.NewFetchResponseTopic()
	t.Partitions = append(t.Partitions, p)
	response := kmsg.NewPtrFetchResponse()
	response.Topics = append(response.Topics, t)
	return response
}

// listen starts a broker that runs script for each connection, and closes the connection afterwards. It returns its address.
func listen(t testing.TB, security *tls.Config, script func(*link)) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close() //nolint:errcheck // of no interest
				if security != nil {
					conn = tls.Server(conn, security)
				}
				script(newLink(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String()
}

// access is how a test reaches the broker at address.
func access(t testing.TB, address string, cluster config.Cluster) Access {
	t.Helper()
	network, err := client.NewNetwork(cluster, &client.Dials{})
	if err != nil {
		t.Fatal(err)
	}
	return Access{
		Network: network,
		Address: func(int32) string { return address },
		Observe: func(string, time.Duration, error) {},
		Buffers: &Buffers{},
	}
}

// open creates lines, which are closed when the test ends.
func open(t testing.TB, a Access) *Lines {
	t.Helper()
	lines := NewLines(a)
	t.Cleanup(lines.Close)
	return lines
}

// certificate returns the TLS config of a broker, and that of a cluster whose clients trust it.
func certificate(t testing.TB) (*tls.Config, *config.TLS) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	trusted := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, &config.TLS{CA: trusted}
}

// overBoth runs a test with and without TLS. Listen is that of the transport.
func overBoth(t *testing.T, test func(t *testing.T, listen func(script func(*link)) Access)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		test(t, func(script func(*link)) Access { return access(t, listen(t, nil, script), config.Cluster{}) })
	})
	t.Run("TLS", func(t *testing.T) {
		server, trusted := certificate(t)
		test(t, func(script func(*link)) Access {
			return access(t, listen(t, server, script), config.Cluster{TLS: trusted})
		})
	})
}

// outcome is how a produce request ended.
type outcome struct {
	request int
	offset  int64
	err     error
}

// sends sends produce requests and collects how they end.
type sends struct {
	lines *Lines
	ended chan outcome
	count int
}

func sending(lines *Lines) *sends { return &sends{lines: lines, ended: make(chan outcome, 10_000)} }

// sendOn sends a request on the connection to a broker.
func sendOn(ctx context.Context, lines *Lines, broker int32, request *ProduceRequest, done func(*kmsg.ProduceResponse, error)) error {
	connection, err := lines.Connect(ctx, broker)
	if err != nil {
		return err
	}
	return connection.Send(ctx, request, done)
}

// send sends a request with one batch. It returns what Send returned.
func (s *sends) send(t testing.TB, batch []byte) error {
	t.Helper()
	request := NewProduceRequest(10 * time.Second)
	request.Add(topicPartition, topicID, batch)
	n := s.count
	s.count++
	return sendOn(t.Context(), s.lines, 1, request, func(response *kmsg.ProduceResponse, err error) {
		o := outcome{request: n, err: err}
		if err == nil {
			o.offset = response.Topics[0].Partitions[0].BaseOffset
		}
		s.ended <- o
	})
}

// must sends a request that Send accepts.
func (s *sends) must(t testing.TB, batch []byte) {
	t.Helper()
	if err := s.send(t, batch); err != nil {
		t.Fatal(err)
	}
}

// next returns how the next request ends.
func (s *sends) next(t testing.TB) outcome {
	t.Helper()
	select {
	case o := <-s.ended:
		return o
	case <-time.After(time.Minute):
		t.Fatal("a request does not end")
		return outcome{}
	}
}

// none checks that no more requests have ended.
func (s *sends) none(t testing.TB) {
	t.Helper()
	select {
	case o := <-s.ended:
		t.Errorf("request %d ended more than once: %v", o.request, o.err)
	default:
	}
}

var errRefused = errors.New("refused")
