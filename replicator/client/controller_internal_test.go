package client

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// knowQuorum lets the brokers of a cluster know DescribeQuorum, and answer it with an error code.
func knowQuorum(t *testing.T, cluster *kfake.Cluster, cl *kgo.Client, answer func() (code int16, err error)) {
	t.Helper()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "test", "1"
	versions, err := request.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	versions.ApiKeys = append(versions.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(kmsg.DescribeQuorum), MaxVersion: 2})
	cluster.ControlKey(int16(kmsg.ApiVersions), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := r.(*kmsg.ApiVersionsRequest)
		response := *versions
		response.Version = asked.Version
		if asked.Version >= 3 && asked.ClientSoftwareName == "" { // as brokers do
			response.ErrorCode, response.ApiKeys = kerr.InvalidRequest.Code, nil
		}
		return &response, nil, true
	})
	cluster.ControlKey(int16(kmsg.DescribeQuorum), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := r.ResponseKind().(*kmsg.DescribeQuorumResponse)
		var err error
		response.ErrorCode, err = answer()
		return response, err, true
	})
}

// A refusal shows that the controller answers. Its silence is told from that of the broker, and from a cluster that has no such request.
func TestReachesController(t *testing.T) {
	t.Parallel()
	cluster := kfake.MustCluster(kfake.NumBrokers(1))
	t.Cleanup(cluster.Close)
	open := func() *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	if got := ReachesController(t.Context(), open(), 0); got != ReachUnknown {
		t.Errorf("a broker without the request: %v", got)
	}
	var code int16
	var silent error
	knowQuorum(t, cluster, open(), func() (int16, error) { return code, silent })
	for _, test := range []struct {
		code   int16
		silent bool
		want   Reach
	}{
		{want: Reaches},
		{code: kerr.ClusterAuthorizationFailed.Code, want: Reaches},
		{code: kerr.RequestTimedOut.Code, want: ReachesNot},
		{code: kerr.NotController.Code, want: ReachesNot},
		{silent: true, want: ReachesNot},
	} {
		code, silent = test.code, nil
		if test.silent {
			silent = errors.New("the connection ends")
		}
		if got := ReachesController(t.Context(), open(), 0); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
	last := open()
	cluster.Close()
	if got := ReachesController(t.Context(), last, 0); got != ReachUnknown {
		t.Errorf("a broker that does not answer: %v", got)
	}
}
