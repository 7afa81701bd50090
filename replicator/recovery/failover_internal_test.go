package recovery

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A source that refuses the login is not gone.
func TestWhatCountsAsAnAnswer(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{kerr.SaslAuthenticationFailed, kerr.ClusterAuthorizationFailed, &tls.CertificateVerificationError{Err: io.ErrUnexpectedEOF}} {
		if !isAnswer(fmt.Errorf("cluster primary: %w", answer)) {
			t.Errorf("%v is no answer", answer)
		}
	}
	for _, silence := range []error{nil, io.EOF, context.DeadlineExceeded} {
		if isAnswer(silence) {
			t.Errorf("%v is an answer", silence)
		}
	}
}

// What is missing is said with what is not known.
func TestLossText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	for want, loss := range map[string]offsets.Loss{
		"nothing is known of what is missing": {Unknown: 3},
		"complete up to 2026-01-31 15:04:05; no record that was seen is missing; the source was last seen at 2026-01-31 15:04:05, and what was written to it since is not known": {
			Partitions: 3, CompleteUpTo: at, SeenAt: at,
		},
		"1 partition never complete; 7 records that were seen are missing; the source was last seen at 2026-01-31 15:04:05, and what was written to it since is not known": {
			Partitions: 3, Never: 1, MissingRecords: 7, SeenAt: at,
		},
		"of 2 partitions nothing is known; no record that was seen is missing": {Partitions: 3, Unknown: 2},
	} {
		if got := lossText(offsets.RPO{Loss: loss}); got != want {
			t.Errorf("%s\nnot %s", got, want)
		}
	}
}

// Most brokers of the source accept connections and hang, and one answers: it is not gone.
func TestASourceIsAliveWhileOneBrokerAnswers(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1).AsCommand()
	alive := c.Source.Brokers
	c.Source.Brokers = nil
	for range 8 {
		hangs, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hangs.Close() })
		c.Source.Brokers = append(c.Source.Brokers, hangs.Addr().String())
	}
	c.Source.Brokers = append(c.Source.Brokers, alive...)
	if err := isAlive(t.Context(), c); err != nil {
		t.Error(err)
	}
}
