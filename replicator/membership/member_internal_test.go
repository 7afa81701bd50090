package membership

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// While the group cannot be joined, each reason is logged once, whichever broker is asked and from whichever port.
func TestAReasonIsLoggedOncePerOutage(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	m := newMember(Config{Group: flowGroup, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	refused := func(port int) error {
		return fmt.Errorf("unable to dial: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: port}, Err: syscall.ECONNREFUSED})
	}
	for _, err := range []error{refused(1), refused(2), kerr.CoordinatorNotAvailable, refused(1), kerr.CoordinatorNotAvailable} {
		m.fail(err)
	}
	if n := strings.Count(logged.String(), "joining again"); n != 2 {
		t.Errorf("%d lines:\n%s", n, logged.String())
	}
	clear(m.reasons) // as an assignment does
	m.fail(refused(1))
	if n := strings.Count(logged.String(), "joining again"); n != 3 {
		t.Errorf("after another outage, %d lines:\n%s", n, logged.String())
	}
}
