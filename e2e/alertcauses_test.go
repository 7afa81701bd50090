package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noVerification is the rate of the verification in the background until something is planted for it, as it reads a record once a day.
const noVerification = "0B"

// forge changes a record of a copy in the log file of the broker, with a checksum that fits, and lets the copies be verified from then on.
func (x *alerts) forge(topic string) {
	x.t.Helper()
	x.waitCopied(x.m, time.Minute, topic)
	file := filepath.Join(x.target.Broker(1).DataDir(), remoteTopic(topic)+"-0", fmt.Sprintf("%020d.log", 0))
	data, err := os.ReadFile(file)
	check(x.t, err)
	batch := batchesOf(data)[0]
	batch[len(batch)-9] ^= 4 // in the value of the last record
	seal(batch)
	log, err := os.OpenFile(file, os.O_WRONLY, 0)
	check(x.t, err)
	_, err = log.WriteAt(data, 0)
	check(x.t, err)
	check(x.t, log.Close())
	config, err := os.ReadFile(x.m.Config())
	check(x.t, err)
	x.m.replaceConfig(x.t, strings.Replace(string(config), noVerification, "100MiB", 1))
}

// writeTo writes ten records with a timestamp.
func (x *alerts) writeTo(topic string, at time.Time) {
	x.t.Helper()
	for i := range 10 {
		check(x.t, x.sourceClient.ProduceSync(x.t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "record %d", i), Timestamp: at}).FirstErr())
	}
}

// overtake deletes records before they are copied.
func (x *alerts) overtake() {
	x.t.Helper()
	x.m.command(x.t, "pause", "--topic", "gapped", "--reason", "a test")
	x.writeTo("gapped", time.Now())
	gone := kadm.Offsets{}
	gone.Add(kadm.Offset{Topic: "gapped", At: 5})
	done, err := x.sourceAdmin.DeleteRecords(x.t.Context(), gone)
	check(x.t, err)
	check(x.t, done.Error())
	x.m.command(x.t, "resume", "--topic", "gapped")
}

func (x *alerts) deleteTopic(topic string) {
	x.t.Helper()
	_, err := x.sourceAdmin.DeleteTopic(x.t.Context(), topic)
	check(x.t, err)
}

// allow deletes the ACLs of milena on the target that deny an operation.
func (x *alerts) allow(operation string) {
	x.t.Helper()
	op, err := kmsg.ParseACLOperation(operation)
	check(x.t, err)
	request, f := kmsg.NewPtrDeleteACLsRequest(), kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType, f.Principal = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.StringPtr("User:milena")
	f.Operation, f.PermissionType = op, kmsg.ACLPermissionTypeDeny
	request.Filters = append(request.Filters, f)
	_, err = request.RequestWith(x.t.Context(), x.targetClient)
	check(x.t, err)
}

// commitOn commits an offset of group app.
func (x *alerts) commitOn(admin *kadm.Client, topic string, offset int64) {
	x.t.Helper()
	at := kadm.Offsets{}
	at.Add(kadm.Offset{Topic: topic, At: offset, LeaderEpoch: -1})
	check(x.t, admin.CommitAllOffsets(x.t.Context(), "app", at))
}

// hang begins a transaction on the source that does not end.
func (x *alerts) hang() {
	x.t.Helper()
	cl, err := x.source.Client(kgo.TransactionalID("hanging"), kgo.TransactionTimeout(10*time.Minute))
	check(x.t, err)
	x.owner.Cleanup(cl.Close)
	check(x.t, cl.BeginTransaction())
	check(x.t, cl.ProduceSync(x.t.Context(), &kgo.Record{Topic: "hanging", Value: []byte("does not end")}).FirstErr())
}

// abort ends the transaction with Kafka's tool.
func (x *alerts) abort() {
	x.t.Helper()
	out, err := x.source.Jars().Tool(x.t.Context(), "org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", x.source.Addrs()[0], "abort", "--topic", "hanging", "--partition", "0", "--start-offset", "0")
	x.t.Logf("%s", out)
	check(x.t, err)
}
