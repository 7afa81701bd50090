package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

// fileError says that the config file could not be read.
type fileError struct{ err error }

func (e *fileError) Error() string {
	return e.err.Error() + "; name a readable config file with -c FILE"
}
func (e *fileError) Unwrap() error { return e.err }

// readConfig reads the config file at path. The error is a usageError, a fileError or a config.Error.
func (p *program) readConfig(path string) (*config.File, error) {
	if path == "" {
		return nil, &usageError{"no config file given; name it with -c FILE"}
	}
	data, err := os.ReadFile(path)
	return p.parseConfig(path, data, err)
}

// parseConfig reads the content of the config file, unless it could not be read.
func (p *program) parseConfig(path string, data []byte, err error) (*config.File, error) {
	if err != nil {
		return nil, &fileError{fmt.Errorf("read the config: %w", err)}
	}
	f, err := config.ReadData(path, data, p.env)
	var wrong *config.Error
	if err != nil && !errors.As(err, &wrong) {
		return nil, &fileError{err}
	}
	return f, err
}

// chooseFlow returns the flow of that name. The name may be empty if the config has only one flow.
func chooseFlow(f *pflag.FlagSet, c *config.Config, name string) (config.Flow, error) {
	var names []string
	for _, flow := range c.Flows {
		if flow.Name == name || name == "" && len(c.Flows) == 1 {
			return flow, nil
		}
		names = append(names, flow.Name)
	}
	if name == "" {
		return config.Flow{}, wrong(f, "the config has %d flows; choose one with --flow: %s", len(names), strings.Join(names, ", "))
	}
	return config.Flow{}, wrong(f, "unknown flow %q; the config has %s", name, strings.Join(names, ", "))
}

// flowsTo returns the flows whose target is one of the clusters; all flows if no cluster is named.
func flowsTo(f *pflag.FlagSet, c *config.Config, clusters []string) ([]config.Flow, error) {
	if !f.Changed("clusters") {
		return c.Flows, nil
	}
	targets := make(map[string]bool)
	for _, flow := range c.Flows {
		targets[flow.Target] = true
	}
	for _, alias := range clusters {
		if !targets[alias] {
			return nil, wrong(f, "--clusters: no flow of the config has the target %q; the targets are %s", alias, strings.Join(slices.Sorted(maps.Keys(targets)), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(c.Flows), func(flow config.Flow) bool { return !slices.Contains(clusters, flow.Target) }), nil
}

// insecure returns a sentence for each cluster to which milena sends a password or token without TLS, or whose brokers may be somebody else, sorted by
// alias.
func insecure(c *config.Config) []string {
	var found []string
	for _, alias := range slices.Sorted(maps.Keys(c.Clusters)) {
		used := slices.ContainsFunc(c.Flows, func(f config.Flow) bool { return f.Source == alias || f.Target == alias })
		cluster := c.Clusters[alias]
		if !used {
			continue
		}
		found = append(found, insecureLogin(alias, cluster)...)
		switch t := cluster.TLS; {
		case t == nil || t.Verify != config.VerifyChain:
		case t.CA == "" && t.CAFile == "":
			found = append(found, fmt.Sprintf("cluster %s has tls.verify: chain without a CA of its own, so anybody with a certificate of a public CA can pose as its brokers; set tls.ca_file, or tls.verify: full", alias))
		default:
			found = append(found, fmt.Sprintf("cluster %s has tls.verify: chain (an empty ssl.endpoint.identification.algorithm in an mm2.properties), so anybody with a certificate of its CA can pose as its brokers; issue certificates with the brokers' names", alias))
		}
	}
	if h := c.HTTP; h.Listen != "" && h.TLS == nil && !isLoopbackName(h.Listen) && (len(h.Tokens) > 0 || len(h.Users) > 0) {
		found = append(found, fmt.Sprintf("http.listen %s has no TLS, so anybody on the network can read the tokens and passwords that are sent there; set http.tls, or let a proxy with TLS be the only one that reaches it", h.Listen))
	}
	return found
}

// insecureLogin returns a sentence for each secret of the login that crosses the network in plain text.
func insecureLogin(alias string, cluster config.Cluster) (found []string) {
	if cluster.SASL == nil {
		return nil
	}
	switch oauth := cluster.SASL.OAuth; {
	case cluster.TLS == nil && cluster.SASL.Mechanism == config.MechanismPlain:
		found = append(found, fmt.Sprintf("cluster %s has SASL PLAIN without TLS, so anybody on the network can read the password; set tls (security.protocol=SASL_SSL in an mm2.properties), or use SCRAM", alias))
	case cluster.TLS == nil && cluster.SASL.Mechanism == config.MechanismOAuthBearer:
		found = append(found, fmt.Sprintf("cluster %s has SASL OAUTHBEARER without TLS, so anybody on the network can read the token and use it; set tls (security.protocol=SASL_SSL in an mm2.properties)", alias))
	case oauth != nil && strings.HasPrefix(oauth.TokenEndpoint, "http:"):
		found = append(found, fmt.Sprintf("the token endpoint of cluster %s is not https, so anybody on the network can read the client secret and the token; use its https URL", alias))
	}
	return found
}

// options are what a flow of the config needs to run.
func (p *program) options(c *config.Config, flow config.Flow, log *slog.Logger, registry prometheus.Registerer) replicator.Options {
	return replicator.Options{
		Instance: p.instanceID(c),
		Clusters: clustersOf(c, flow, log), Registerer: registry,
		Buffer: int64(c.Buffer), ShutdownTimeout: c.ShutdownTimeout, Version: buildVersion(), PartitionSeries: c.Metrics.Partitions,
	}
}

// notInID are the characters that Kafka does not allow in a group.instance.id.
var notInID = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// instanceID is the id of this process among those that run the flows of the config. It is the same after a restart.
func (p *program) instanceID(c *config.Config) string {
	if c.Instance != "" {
		return c.Instance
	}
	if pod, ok := p.env("POD_NAME"); ok && pod != "" {
		return notInID.ReplaceAllString(pod, "-")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.Trim(notInID.ReplaceAllString(host+"-"+c.HTTP.Listen, "-"), "-")
}

// clustersOf are the two clusters of a flow of the config, with a log.
func clustersOf(c *config.Config, flow config.Flow, log *slog.Logger) client.Clusters {
	return client.Clusters{Flow: flow, Source: c.Clusters[flow.Source], Target: c.Clusters[flow.Target], Reverse: c.ReverseOf(flow), Log: log}
}

// silent are the clusters of a command whose output says all that clients would log.
func silent(c *config.Config, flow config.Flow) client.Clusters {
	return clustersOf(c, flow, slog.New(slog.DiscardHandler))
}
