package replicatortest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Commit commits an offset for a group without members.
func (c *Cluster) Commit(group, topic string, partition int32, offset int64) {
	c.t.Helper()
	c.CommitWithMetadata(group, topic, partition, offset, "")
}

// CommitWithMetadata is Commit with the text that a consumer may add to its offset.
func (c *Cluster) CommitWithMetadata(group, topic string, partition int32, offset int64, metadata string) {
	c.t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
	if err := c.Admin.CommitAllOffsets(c.t.Context(), group, o); err != nil {
		c.t.Fatalf("commit %d of %s-%d for group %s: %v", offset, topic, partition, group, err)
	}
}

// Committed is the committed offset of a group and its metadata; -1 if there is none.
func (c *Cluster) Committed(group, topic string, partition int32) (offset int64, metadata string) {
	c.t.Helper()
	fetched, err := c.Admin.FetchOffsets(c.t.Context(), group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1, ""
	}
	if err != nil {
		c.t.Fatalf("fetch the offsets of group %s: %v", group, err)
	}
	o, ok := fetched.Lookup(topic, partition)
	if !ok {
		return -1, ""
	}
	return o.At, o.Metadata
}

// AwaitCommitted waits until the committed offset of a group is want.
func (c *Cluster) AwaitCommitted(group, topic string, partition int32, want int64) {
	c.t.Helper()
	Eventually(c.t, fmt.Sprintf("group %s is at %d of %s-%d", group, want, topic, partition), func() (bool, string) {
		got, _ := c.Committed(group, topic, partition)
		return got == want, fmt.Sprintf("it is at %d", got)
	})
}

// AllowRead adds an ACL that allows a user to read a topic.
func (c *Cluster) AllowRead(user, topic string) {
	c.t.Helper()
	b := kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow("User:" + user).AllowHosts("*")
	results, err := c.Admin.CreateACLs(c.t.Context(), b)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		c.t.Fatalf("allow %s to read %s: %v", user, topic, err)
	}
}

// Readers are the principals, sorted, that ACLs allow to read a topic.
func (c *Cluster) Readers(topic string) []string {
	c.t.Helper()
	b := kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow().AllowHosts()
	results, err := c.Admin.DescribeACLs(c.t.Context(), b)
	if err != nil {
		c.t.Fatalf("describe the ACLs of %s: %v", topic, err)
	}
	var users []string
	for _, r := range results {
		for _, d := range r.Described {
			users = append(users, d.Principal)
		}
	}
	slices.Sort(users)
	return users
}
