package plan

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
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

// The first request for a group makes brokers create the topic of their groups, and for a moment they have no coordinator. That is healthy.
func TestCheck_clusterThatNeverHadAGroup(t *testing.T) {
	test := newCheckTest(t, nil)
	test.create(test.source, "orders", 1, nil)
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Group: "milena.primary-dr", Err: kerr.CoordinatorNotAvailable, Count: 2})
	if plan := test.check(); len(plan.Warnings)+len(plan.Refused) > 0 {
		t.Errorf("%q, %q", plan.Warnings, plan.Refused)
	}
}
