package plan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clockTolerance is how far a clock may be off. Clocks that a daemon keeps are off by milliseconds.
const clockTolerance = 5 * time.Second

// examineClocks compares the clock here with that of each cluster. Kafka's protocol has no request for the time, and a record that a broker stamps
// would have to be written. But the active controller says, as the leader of its quorum, that it has caught up with itself now, by its own clock
// (KIP-836). It is the only clock that a cluster shows; those of the other brokers are not known.
func (d *doctor) examineClocks(ctx context.Context) {
	for _, s := range d.on {
		if !s.knows(kmsg.DescribeQuorum) {
			continue // with ZooKeeper
		}
		before := time.Now()
		controller, clock, err := controllerClock(ctx, s.client)
		after := time.Now()
		switch {
		case err != nil:
			d.notExamined(s, fmt.Sprintf("whether the clock of cluster %s is right", s.alias), "DESCRIBE on the cluster", err)
		case !clock.IsZero():
			d.judgeClock(s, controller, skew(before, clock, after))
		}
	}
}

// skew is how far a clock is ahead of the clock here, at least: it was read between before and after.
func skew(before, clock, after time.Time) time.Duration {
	switch {
	case clock.After(after):
		return clock.Sub(after)
	case clock.Before(before):
		return clock.Sub(before)
	}
	return 0
}

func (d *doctor) judgeClock(s *side, controller int32, off time.Duration) {
	if off.Abs() <= clockTolerance {
		return
	}
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	d.add(Finding{
		ID: ClockSkew, Severity: SeverityWarning, Cluster: s.alias,
		Meaning: fmt.Sprintf("The clock of controller %d is %v %s the clock here, so retention, limits of timestamps, tokens and the lag in seconds are off by as much.",
			controller, off.Abs().Round(time.Second), direction),
		Mend: "Synchronize the clocks of the brokers and of this host. On the host whose clock is wrong, run this as root:", Command: "chronyc makestep",
	})
}

// controllerClock returns the id of the active controller and its clock, the zero time if it is too old to tell.
func controllerClock(ctx context.Context, cl *kgo.Client) (controller int32, clock time.Time, err error) {
	request := kmsg.NewPtrDescribeQuorumRequest()
	topic, partition := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return 0, time.Time{}, errors.New("the response does not have the partition")
	}
	quorum := response.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(quorum.ErrorCode); err != nil {
		return 0, time.Time{}, err
	}
	for _, voter := range quorum.CurrentVoters {
		if voter.ReplicaID == quorum.LeaderID && voter.LastCaughtUpTimestamp > 0 {
			return voter.ReplicaID, time.UnixMilli(voter.LastCaughtUpTimestamp), nil
		}
	}
	return quorum.LeaderID, time.Time{}, nil
}
