package replicatortest

import (
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// RequireReadOnly fails the test at its end if a client with this id sent either cluster a request that may change anything, or no request at all.
// Call it before that client connects.
func (c *Clusters) RequireReadOnly(clientID string) {
	var mu sync.Mutex
	var writes []string
	all := 0
	see := func(client string, request kmsg.Request) {
		if client != clientID {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if all++; !readOnly(request) {
			writes = append(writes, fmt.Sprintf("%T %+v", request, request))
		}
	}
	c.Source.Observe(see)
	c.Target.Observe(see)
	c.t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if all == 0 {
			c.t.Errorf("no request of client %s was seen", clientID)
		}
		for _, request := range writes {
			c.t.Errorf("client %s sent a request that may change a cluster: %s", clientID, request)
		}
	})
}

// readOnly lists the requests that leave no trace; what is not listed may leave one.
func readOnly(request kmsg.Request) bool {
	switch r := request.(type) {
	case *kmsg.ApiVersionsRequest, *kmsg.FetchRequest, *kmsg.ListOffsetsRequest, *kmsg.DescribeConfigsRequest, *kmsg.DescribeClusterRequest:
		return true
	case *kmsg.MetadataRequest:
		return !r.AllowAutoTopicCreation
	case *kmsg.CreateTopicsRequest:
		return r.ValidateOnly
	case *kmsg.CreatePartitionsRequest:
		return r.ValidateOnly
	case *kmsg.IncrementalAlterConfigsRequest:
		return r.ValidateOnly
	default:
		return false
	}
}
