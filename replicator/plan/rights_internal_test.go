package plan

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The time is over while the last request is under way. What the cluster has said before is the reason, not the deadline.
func TestMissingCoordinatorIsTheReasonAlsoAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		err := findCoordinator(t.Context(), func(ctx context.Context) error {
			if asked++; asked < 3 {
				return kerr.CoordinatorNotAvailable
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, kerr.CoordinatorNotAvailable) {
			t.Errorf("the error is %v", err)
		}
	})
}
