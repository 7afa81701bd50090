package switching

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
)

const (
	// Topic is what the application writes and reads.
	Topic    = "orders"
	user     = "app"
	password = "correct horse battery staple"
)

// Options are those of a world.
type Options struct {
	Partitions int
	PerSecond  int  // records of all producers together
	Groups     int  // consumer groups; the states follow each other
	Newer      bool // the groups are of the newer protocol (KIP-848), whose members the broker assigns partitions to
	Binary     string
	Jars       kafka.Jars
	Dir        string
	Logf       func(format string, args ...any)
}

// World is two clusters, a flow in each direction, and the application.
type World struct {
	Options
	Milena *daemon.Daemon
	App    *App

	clusters []*kafka.Cluster // source, target
	pool     *x509.CertPool
}

// Start starts the clusters, milena and the application, which uses the source. All end with ctx.
func Start(ctx context.Context, o Options) (*World, error) {
	ca, err := kafka.NewAuthority("the authority")
	if err != nil {
		return nil, err
	}
	w := &World{Options: o, pool: x509.NewCertPool()}
	w.pool.AppendCertsFromPEM(ca.PEM)
	security := &kafka.Security{CA: ca, Users: map[string]string{user: password}}
	authorizer := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
	if w.clusters, err = kafka.StartAll(ctx, o.Jars, kafka.Options{Name: "source", Dir: o.Dir, Security: security, Properties: authorizer},
		kafka.Options{Name: "target", Dir: o.Dir, Security: security, Properties: authorizer}); err != nil {
		return nil, err
	}
	for _, c := range w.clusters {
		if err := c.Admin(func(admin *kadm.Client) error { return kafka.CreateTopic(ctx, admin, Topic, o.Partitions, 1) }); err != nil {
			return nil, err
		}
		if err := allow(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := w.startMilena(ctx); err != nil {
		return nil, err
	}
	w.App = newApp(w)
	return w, w.App.use(ctx, 0)
}

func (w *World) startMilena(ctx context.Context) (err error) {
	if w.Milena, err = daemon.New(ctx, w.Binary, filepath.Join(w.Dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": w.clusters[0].Addrs()}, "target": daemon.Map{"brokers": w.clusters[1].Addrs()}},
		"flows": []daemon.Map{
			{"source": "source", "target": "target", "topics": []string{Topic}, "groups_back": []string{".*"}, "groups_interval": "1s"},
			{"source": "target", "target": "source", "topics": []string{Topic}, "groups_back": []string{".*"}, "groups_interval": "1s"},
		},
	}); err != nil {
		return err
	}
	if err := w.Milena.Start(ctx); err != nil {
		return err
	}
	return w.WaitReady(ctx)
}

// WaitReady waits until milena is ready.
func (w *World) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("milena is not ready within 2 minutes"))
	defer cancel()
	return w.Milena.WaitReady(ctx)
}

// allow gives the application all rights on topics, groups and transactions.
func allow(ctx context.Context, c *kafka.Cluster) error {
	return c.Admin(func(admin *kadm.Client) error {
		b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").Topics("*").Groups("*").TransactionalIDs("*").Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
		made, err := admin.CreateACLs(ctx, b)
		for _, r := range made {
			if err == nil {
				err = r.Err
			}
		}
		return err
	})
}

// client connects to a cluster as the application does.
func (w *World) client(cluster int, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.clusters[cluster].SecureAddrs()...), kgo.DialTLSConfig(&tls.Config{RootCAs: w.pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()), kgo.DisableClientMetrics(), kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
}

// other is the cluster of the other side.
func other(cluster int) int { return 1 - cluster }

// copied is what the copy of the topic from the other side is called.
func (w *World) copied(cluster int) string { return w.clusters[other(cluster)].Name() + "." + Topic }

// flow is the flow that copies from a cluster to the other one.
func (w *World) flow(from int) string {
	return w.clusters[from].Name() + "-" + w.clusters[other(from)].Name()
}

// ACLs are all ACLs of a cluster, as sorted texts.
func (w *World) ACLs(ctx context.Context, cluster int) (all []string, err error) {
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	cl, err := w.clusters[cluster].Client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	answer, err := request.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	for _, r := range answer.Resources {
		for _, a := range r.ACLs {
			all = append(all, fmt.Sprintf("%v %v %s %v %s %v", a.PermissionType, a.Operation, a.Principal, r.ResourceType, r.ResourceName, r.ResourcePatternType))
		}
	}
	slices.Sort(all)
	return all, nil
}

// Denies reports whether an ACL of a cluster denies something.
func (w *World) Denies(ctx context.Context, cluster int) (bool, error) {
	all, err := w.ACLs(ctx, cluster)
	return slices.ContainsFunc(all, func(text string) bool { return strings.HasPrefix(text, "DENY") }), err
}

// ControlEnd is the end of the control topic of the flow that copies from a cluster.
func (w *World) ControlEnd(ctx context.Context, from int) (end int64, err error) {
	err = w.clusters[other(from)].Admin(func(admin *kadm.Client) error {
		listed, err := admin.ListEndOffsets(ctx, "milena."+w.flow(from)+".control")
		if err == nil {
			err = listed.Error()
		}
		at, _ := listed.Lookup("milena."+w.flow(from)+".control", 0)
		end = at.Offset
		return err
	})
	return end, err
}
