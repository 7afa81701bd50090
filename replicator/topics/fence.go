package topics

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// CheckFence asks a broker of the target whether it has the requests that the fence of a flow needs. The first result is a sentence about what
// cannot work, the second one about what works and is weaker than it could be; both are empty if neither is so. An error means that the broker
// did not answer.
func CheckFence(ctx context.Context, client *kgo.Client, flow config.Flow) (refused, warning string, err error) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "milena", "unknown"
	response, err := client.Request(ctx, request)
	if err != nil {
		return "", "", err
	}
	known := make(map[kmsg.Key]bool)
	for _, k := range response.(*kmsg.ApiVersionsResponse).ApiKeys {
		known[kmsg.Key(k.ApiKey)] = true
	}
	var missing []string
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
		if !known[key] {
			missing = append(missing, key.Name())
		}
	}
	switch {
	case !known[kmsg.InitProducerID]:
		return fmt.Sprintf("cluster %s has no idempotent producers (its brokers know no %s requests), and milena cannot write every record exactly once without them", flow.Target, kmsg.InitProducerID.Name()), "", nil
	case flow.Fence == config.FenceLease && len(missing) > 0:
		return "", "fence: lease: " + weaker, nil
	case flow.Fence == config.FenceLease:
		return "", fmt.Sprintf("cluster %s has transactions; remove fence: lease, unless its topics refuse them: %s", flow.Target, weaker), nil
	case len(missing) > 0:
		return fmt.Sprintf("cluster %s has no transactions (its brokers know no %s requests); set fence: lease in the flow: %s", flow.Target, strings.Join(missing, " or "), weaker), "", nil
	}
	return "", "", nil
}

// weaker says what a flow without transactions lacks.
const weaker = "then the group of the instances and the lease keep an earlier owner from writing, and what it sent before may still arrive after its successor has begun; " +
	"such records are twice in the copy, and are reported as foreign_write"
