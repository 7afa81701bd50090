package membership

import (
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// While the group cannot be joined, each reason is told once, whichever broker is asked and from whichever port.
func TestAReasonIsToldOncePerOutage(t *testing.T) {
	t.Parallel()
	var told []error
	m := newMember(Config{Group: flowGroup, Retried: func(err error) { told = append(told, err) }})
	refused := func(port int) error {
		return fmt.Errorf("unable to dial: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: port}, Err: syscall.ECONNREFUSED})
	}
	for _, err := range []error{refused(1), refused(2), kerr.CoordinatorNotAvailable, refused(1), kerr.CoordinatorNotAvailable} {
		m.fail(err)
	}
	if len(told) != 2 {
		t.Errorf("told %q", told)
	}
	clear(m.reasons) // as an assignment does
	m.fail(refused(1))
	if len(told) != 3 {
		t.Errorf("after another outage, told %q", told)
	}
}
