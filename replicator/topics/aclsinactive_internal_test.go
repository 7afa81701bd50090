package topics

import (
	"slices"
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// A sync that ends because another instance leads ends altogether: nothing is deleted after the creations were broken off. A DENY that was to be
// created takes the place of one that is deleted, and in between nobody may do more than at the end.
func TestACLs_nothingIsDeletedAfterCreationsWereBrokenOff(t *testing.T) {
	test := newACLsTest(t, func(f *config.Flow) { f.ACLsDelete = true })
	test.create(test.source, "orders", 1, nil)
	test.create(test.target, "primary.orders", 1, nil)
	kafkatest.Grant(t, test.Syncer.source, "DENY", "READ", "bob", "orders+")
	kafkatest.Grant(t, test.Syncer.target, "DENY", "READ", "bob", "primary.orders")
	asked := 0
	flaps := func() bool { asked++; return asked > 1 } // the lease ran out and was confirmed again
	if err := test.acls.Sync(t.Context(), nil, flaps); err != nil {
		t.Fatal(err)
	}
	if got := test.onTarget(); !slices.Contains(got, "DENY READ to User:bob on topic primary.orders") {
		t.Errorf("bob is denied no more, and his new DENY was not created: %v (%d deleted)", got, test.changes["deleted"])
	}
}
