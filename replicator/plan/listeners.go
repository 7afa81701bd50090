package plan

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/milena-kafka/milena/replicator/client"
)

// oldest is the oldest version of brokers that is tested, and a request that it brought.
type oldest struct {
	version string
	brought kmsg.Key
}

func oldestSource() oldest { return oldest{"1.1", kmsg.DeleteGroups} }
func oldestTarget() oldest { return oldest{"2.8", kmsg.DescribeCluster} }

// examineBrokers looks at the brokers of both clusters: whether each can be reached from here under the address that it advertises, its certificate, and
// its version.
func (d *doctor) examineBrokers(ctx context.Context) {
	var wait sync.WaitGroup
	var certificates [2]map[int32]client.Presented
	for i, s := range d.on {
		wait.Go(func() { s.brokers = askBrokers(ctx, s.client, s.view) })
		wait.Go(func() { certificates[i] = presentedBy(ctx, s) })
	}
	wait.Wait()
	for i, s := range d.on {
		for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
			broker := fmt.Sprintf("broker %d (%s) of the %s", id, s.view.Brokers[id], s.name)
			if !d.examineCertificate(s, broker, certificates[i][id]) {
				d.examineReach(s, broker, s.brokers[id])
			}
		}
		d.examineVersions(s)
	}
}

// presentedBy connects to each broker with TLS, all in parallel. It returns nil for a cluster without TLS.
func presentedBy(ctx context.Context, s *side) map[int32]client.Presented {
	if s.config.TLS == nil {
		return nil
	}
	network, err := client.NewNetwork(s.config, &client.Dials{})
	if err != nil {
		return nil // the client of the cluster could not have been opened
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	found := make(map[int32]client.Presented)
	for id, address := range s.view.Brokers {
		wait.Go(func() {
			presented := network.Certificates(ctx, address, *s.config.TLS)
			mu.Lock()
			defer mu.Unlock()
			found[id] = presented
		})
	}
	wait.Wait()
	return found
}

// examineCertificate looks at the certificates that a broker presented. It returns true if they are why it cannot be reached.
func (d *doctor) examineCertificate(s *side, broker string, presented client.Presented) bool {
	if presented.Invalid != nil {
		what, todo := halves(presented.Invalid)
		d.add(Finding{
			ID: CertificateInvalid, Severity: SeverityError, Cluster: s.alias, Mend: todo,
			Meaning: fmt.Sprintf("Partitions that %s leads wait, because its certificate is refused: %s", broker, what),
		})
		return true
	}
	for i, c := range presented.Chain {
		isRoot := i > 0 && bytes.Equal(c.RawSubject, c.RawIssuer) // what the broker presents is not what is trusted
		if isRoot || d.now.Add(certificateDays*24*time.Hour).Before(c.NotAfter) {
			continue
		}
		d.add(Finding{
			ID: CertificateExpires, Severity: SeverityWarning, Cluster: s.alias,
			Meaning: fmt.Sprintf("The certificate %q of %s expires on %s, and then milena cannot connect to it any more.", subject(c), broker, c.NotAfter.UTC().Format("2006-01-02 15:04 UTC")),
			Mend:    "Issue a new certificate and put it into the key store of the broker, which reads it again at its next start or when its keystore location is set again with kafka-configs.sh.",
		})
		break
	}
	return false
}

func subject(c *x509.Certificate) string {
	if name := c.Subject.String(); name != "" {
		return name
	}
	return fmt.Sprintf("serial number %d", c.SerialNumber)
}

func (d *doctor) examineReach(s *side, broker string, answer brokerAnswer) {
	if answer.err == nil {
		return
	}
	what, todo := halves(s.explain(answer.err))
	d.add(Finding{
		ID: BrokerUnreachable, Severity: SeverityError, Cluster: s.alias,
		Meaning: fmt.Sprintf("Partitions that %s leads wait, because it cannot be reached from here: %s", broker, what),
		Mend:    todo,
	})
}

// examineVersions looks at the versions of Kafka that the brokers have. Brokers do not tell them, but the requests that they know.
func (d *doctor) examineVersions(s *side) {
	o := oldestSource()
	if s == d.targetSide() {
		o = oldestTarget()
	}
	var old []int32
	same := make(map[string][]int32)    // brokers by the requests that they know
	versions := make(map[string]string) // what these are likely to be
	for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
		if s.brokers[id].err != nil {
			continue
		}
		known := kversion.FromApiVersionsResponse(s.brokers[id].versions)
		if !known.HasKey(int16(o.brought)) {
			old = append(old, id)
		}
		requests := requestsOf(s.brokers[id].versions)
		same[requests], versions[requests] = append(same[requests], id), known.VersionGuess()
	}
	if len(old) > 0 {
		d.add(Finding{
			ID: BrokerVersion, Severity: SeverityWarning, Cluster: s.alias,
			Meaning: fmt.Sprintf("The Kafka of brokers %s is older than %s, and such a %s is not tested.", list(old), o.version, s.name),
			Mend:    fmt.Sprintf("Upgrade the brokers to Kafka %s or later.", o.version),
		})
	}
	if len(same) > 1 {
		var texts []string
		for requests, ids := range same {
			texts = append(texts, fmt.Sprintf("brokers %s have %s", list(ids), versions[requests]))
		}
		slices.Sort(texts)
		d.add(Finding{
			ID: MixedVersions, Severity: SeverityWarning, Cluster: s.alias,
			Meaning: fmt.Sprintf("The brokers have several versions of Kafka, so what works depends on which broker is asked: %s.", strings.Join(texts, ", ")),
			Mend:    "Finish the upgrade of the cluster.",
		})
	}
}

// requestsOf is a text that is the same for brokers that know the same versions of the same requests.
func requestsOf(versions *kmsg.ApiVersionsResponse) string {
	keys := make([]string, 0, len(versions.ApiKeys))
	for _, k := range versions.ApiKeys {
		keys = append(keys, fmt.Sprint(k.ApiKey, k.MinVersion, k.MaxVersion))
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

// list is a list of broker ids, shortened.
func list(ids []int32) string {
	text := ""
	for i, id := range ids[:min(len(ids), groupsShown)] {
		if i > 0 {
			text += ", "
		}
		text += strconv.Itoa(int(id))
	}
	if more := len(ids) - groupsShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
