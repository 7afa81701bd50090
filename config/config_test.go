package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/milena-kafka/milena/config"
)

var rewrite = flag.Bool("rewrite", false, "write the messages into the files of testdata; review the diff")

// env is the environment of all files in testdata.
func env(name string) (string, bool) {
	v, ok := map[string]string{
		"KAFKA_PASSWORD": "s3cr3t", "USER_NAME": "milena", "SHARDS": "16", "HOST": "kafka",
	}[name]
	return v, ok
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

// Each bad file ends with comments that list all its problems in order.
func TestBadFilesReportAllProblems(t *testing.T) {
	const mark = "# want "
	for _, path := range files(t, "testdata/*.bad.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var file, want []string
			for line := range strings.Lines(string(data)) {
				if text, ok := strings.CutPrefix(line, mark); ok {
					want = append(want, strings.TrimSpace(text))
				} else {
					file = append(file, line)
				}
			}
			_, err = config.Load(path, env)
			var ce *config.Error
			if !errors.As(err, &ce) {
				t.Fatalf("error is %T: %v", err, err)
			}
			var got []string
			for _, p := range ce.Problems {
				if p.File != path {
					t.Errorf("problem in file %q", p.File)
				}
				got = append(got, strings.TrimSpace(strings.TrimPrefix(p.String(), path+":")))
			}
			if *rewrite {
				text := strings.Join(file, "") + mark + strings.Join(got, "\n"+mark) + "\n"
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			for _, secret := range []string{"s3cr3t", "hunter2", "12345"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a message shows the secret %q:\n%v", secret, err)
				}
			}
		})
	}
}

func TestGoodFilesLoad(t *testing.T) {
	for _, path := range files(t, "testdata/*.good.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := config.Load(path, env)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Validate(); err != nil {
				t.Errorf("Validate of a loaded config: %v", err)
			}
		})
	}
}

func load(t *testing.T, name string) *config.Config {
	t.Helper()
	c, err := config.Load("testdata/"+name+".good.yaml", env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSmallestFileHasAllDefaults(t *testing.T) {
	want := config.Default()
	a, b := config.DefaultCluster(), config.DefaultCluster()
	a.Brokers, b.Brokers = []string{"a:9092"}, []string{"b:9092"}
	want.Clusters = map[string]config.Cluster{"a": a, "b": b}
	want.Flows = []config.Flow{config.DefaultFlow("a", "b")}
	if diff := cmp.Diff(&want, load(t, "smallest")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if want.Flows[0].Name != "a-b" || want.Flows[0].Lease != 15*time.Second || want.Buffer != 32<<20 {
		t.Errorf("the defaults changed: %+v", want)
	}
}

// The old name of a key is still read, with a note that names the new one.
func TestOldKeyName(t *testing.T) {
	for name, notes := range map[string][]config.Note{
		"migrate-from":         nil,
		"migrate-from-old-key": {{Key: "flows[0].take_over", Line: 7, Reason: "is now called migrate_from; the old name still works"}},
	} {
		f, err := config.Read("testdata/"+name+".good.yaml", env)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Config.Flows[0].MigrateFrom; got != "mm2-offsets.a.internal" {
			t.Errorf("%s: migrate_from is %q", name, got)
		}
		if diff := cmp.Diff(notes, f.Notes); diff != "" {
			t.Errorf("%s: notes -want +got\n%s", name, diff)
		}
	}
}

func oauthCluster(alias string, o config.OAuth) config.Cluster {
	return config.Cluster{Brokers: []string{alias + ":9092"}, ClientID: "milena", SASL: &config.SASL{Mechanism: config.MechanismOAuthBearer, OAuth: &o}}
}

func TestAllKeysAreRead(t *testing.T) {
	c := load(t, "full")
	want := &config.Config{
		Clusters: map[string]config.Cluster{
			"primary": {
				Brokers: []string{"kafka-1.eu:9092", "[::1]:9092"}, ClientID: "copier",
				TLS: &config.TLS{
					CAFile: "ca.jks", CAPassword: "s3cr3t", CertFile: "me.p12", CertPassword: "s3cr3t", KeyFile: "me.key", KeyPassword: "s3cr3t",
					ServerName: "kafka.eu",
					Verify:     "chain",
				},
				SASL: &config.SASL{Mechanism: config.MechanismScramSHA512, Username: "milena", Password: "s3cr3t"},
			},
			"dr": {
				Brokers: []string{"dr-1:9092"}, ClientID: "milena",
				TLS:  &config.TLS{CA: "pem", Cert: "pem", Key: "s3cr3t", KeyPasswordFile: "/run/secrets/key", Verify: "full"},
				SASL: &config.SASL{Mechanism: config.MechanismPlain, Username: "me", PasswordFile: "/run/secrets/dr"},
			},
			"lab": {
				Brokers: []string{"lab:9092"}, ClientID: "milena",
				TLS: &config.TLS{CAFile: "ca.p12", CAPasswordFile: "/run/secrets/ca", CertFile: "me.jks", CertPasswordFile: "/run/secrets/cert", Verify: "full"},
			},
			"open": {Brokers: []string{"open:9092"}, ClientID: "milena", TLS: &config.TLS{Verify: "full"}},
			"tokens": oauthCluster("tokens", config.OAuth{
				TokenEndpoint: "https://login.example/token", ClientID: "milena", ClientSecret: "s3cr3t", Scope: "kafka", CAFile: "/etc/login.pem",
				Extensions: map[string]string{"logicalCluster": "lkc-1"},
			}),
			"signed":   oauthCluster("signed", config.OAuth{TokenEndpoint: "http://login/token", ClientID: "milena", ClientSecretFile: "/run/secrets/client"}),
			"asserted": oauthCluster("asserted", config.OAuth{TokenEndpoint: "http://login/token", AssertionFile: "/run/secrets/jwt"}),
			"msk": {
				Brokers: []string{"msk:9098"}, ClientID: "milena", TLS: &config.TLS{Verify: "full"},
				SASL: &config.SASL{Mechanism: config.MechanismMSKIAM, AWS: &config.AWS{
					Region: "eu-west-1", Profile: "kafka", RoleARN: "arn:aws:iam::111122223333:role/milena", RoleSessionName: "dr",
				}},
			},
			"tickets": {Brokers: []string{"tickets:9092"}, ClientID: "milena", SASL: &config.SASL{Mechanism: config.MechanismGSSAPI, Kerberos: &config.Kerberos{
				Principal: "milena/host@EXAMPLE.COM", Keytab: "/etc/milena.keytab", ServiceName: "broker", Krb5Conf: "/etc/milena/krb5.conf",
			}}},
			"cached": {Brokers: []string{"cached:9092"}, ClientID: "milena", SASL: &config.SASL{
				Mechanism: config.MechanismGSSAPI, Kerberos: &config.Kerberos{TicketCache: "/tmp/krb5cc_0", ServiceName: "kafka", Krb5Conf: "/etc/krb5.conf"},
			}},
			"irsa":      {Brokers: []string{"irsa:9098"}, ClientID: "milena", TLS: &config.TLS{Verify: "full"}, SASL: &config.SASL{Mechanism: config.MechanismMSKIAM}},
			"projected": oauthCluster("projected", config.OAuth{TokenFile: "/run/secrets/token"}),
		},
		Flows: []config.Flow{config.DefaultFlow("primary", "dr"), config.DefaultFlow("primary", "dr"), config.DefaultFlow("lab", "open"), config.DefaultFlow("open", "lab")},
		HTTP: config.HTTP{
			Listen: ":8080", Hosts: []string{"milena.example"}, PProf: true, Open: []string{config.OpenProbes, config.OpenMetrics},
			Tokens: map[string]config.Secret{"alice": "0123456789abcdef0123456789abcdef"},
			Users:  map[string]config.Secret{"bob": "$2a$10$5cISzyikKXMK3cYkf0aNE.DjECNVn1.CqFxL9PkOeocJZEwq3F7Ii"},
			TLS:    &config.HTTPTLS{CertFile: "server.pem", KeyFile: "server.key", ClientCAFile: "clients.pem"},
		},
		Log: config.Log{Level: "debug", Format: "json"}, Metrics: config.Metrics{Partitions: config.SeriesLagging},
		OTel:   config.OTel{Endpoint: "https://collector:4318/otlp"},
		Buffer: 64 << 20, ShutdownTimeout: time.Minute, Instance: "node-1",
	}
	f := &want.Flows[0]
	f.Name, f.Topics, f.TopicsExclude = "east", []string{"orders.*", "payments"}, []string{}
	f.Separator, f.Start, f.Isolation, f.ReplicationFactor = "-", config.StartLatest, config.ReadUncommitted, 3
	f.ConfigsExclude = []string{`min\.insync\.replicas`}
	f.TopicsInterval, f.ConfigsInterval, f.JournalInterval, f.Lease = time.Second, 90*time.Second, 5*time.Second, 15*time.Second
	f.Shards, f.Instances = 16, config.InstancesOne
	f.Groups, f.GroupsExclude, f.GroupsSync, f.GroupsInterval = []string{"app-.*"}, []string{}, false, time.Minute
	f.TopicsRefresh, f.GroupsRefresh, f.ConfigsSync, f.Checkpoints, f.Heartbeats = false, false, false, false, false
	f.HeartbeatsInterval, f.OffsetSyncs, f.InternalSeparator, f.Provenance = 9*time.Second, config.OffsetSyncsSource, ".", true
	f.Anomalies["recreated"], f.Anomalies["truncated"] = "restart", "skip"
	f.Verify = config.Verify{Rate: 10 << 20}
	rpo, rto := 30*time.Second, 5*time.Minute
	f.RPO, f.RTO = &rpo, &rto
	f.AnomaliesByTopic = []config.TopicAnomalies{{Topics: []string{"logs-.*", "clicks"}, Anomalies: map[string]string{"retention_gap": "skip"}}}
	f = &want.Flows[1]
	f.Name, f.Fence, f.Naming, f.Rename = "renamed", config.FenceLease, config.NamingRename, map[string]string{"orders.v1": "orders", "clicks": "web-clicks"}
	want.Flows[2].Naming, want.Flows[3].Naming, want.Flows[3].ReverseOf = config.NamingIdentity, config.NamingIdentity, "lab-open"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Heartbeats of a pair of clusters belong to one flow, which the file's notes say.
func TestOneFlowOfAPairHasHeartbeats(t *testing.T) {
	const clusters = `
clusters:
  a: {brokers: ["a:9092"]}
  b: {brokers: ["b:9092"]}
flows:
`
	for name, test := range map[string]struct {
		flows string
		// writes and copies are the flows that write heartbeats, and those that copy them.
		writes, copies []string
		notes          []string
	}{
		"the first of three": {
			"  - {source: a, target: b, name: one, topics: [x.*]}\n  - {source: a, target: b, name: two, topics: [y.*]}\n  - {source: b, target: a, name: back, topics: [x.*]}\n",
			[]string{"one", "back"},
			[]string{"one", "back"},
			[]string{"flows[1] (line 6): leaves heartbeats to flow one, which has the same clusters"},
		},
		"the one that names the topic": {
			"  - {source: a, target: b, name: one, topics: [x.*]}\n  - {source: a, target: b, name: two, topics: [heartbeats]}\n",
			[]string{"one"},
			[]string{"two"},
			[]string{"flows[0] (line 5): leaves heartbeats to flow two, which has the same clusters", "flows[1] (line 6): leaves heartbeats to flow one, which has the same clusters"},
		},
		"off in the first": {
			"  - {source: a, target: b, name: one, topics: [x.*], heartbeats: false}\n  - {source: a, target: b, name: two, topics: [y.*], separator: _}\n",
			[]string{"two"},
			[]string{"one"},
			[]string{"flows[1] (line 6): leaves heartbeats to flow one, which has the same clusters"},
		},
		"one flow": {"  - {source: a, target: b, name: one}\n", []string{"one"}, []string{"one"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "milena.yaml")
			if err := os.WriteFile(path, []byte(clusters[1:]+test.flows), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := config.Read(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			var writes, copies, notes []string
			for _, flow := range f.Config.Flows {
				if flow.Heartbeats {
					writes = append(writes, flow.Name)
				}
				if !slices.ContainsFunc(flow.TopicsExclude, func(p string) bool { return strings.HasSuffix(p, "heartbeats") }) {
					copies = append(copies, flow.Name)
				}
			}
			for _, n := range f.Notes {
				notes = append(notes, n.String())
			}
			if diff := cmp.Diff([][]string{test.writes, test.copies, test.notes}, [][]string{writes, copies, notes}); diff != "" {
				t.Errorf("writes, copies, notes: -want +got\n%s", diff)
			}
		})
	}
}

func TestVariablesAreReplacedInValuesAndLists(t *testing.T) {
	c := load(t, "environment")
	a := c.Clusters["a"]
	if diff := cmp.Diff([]string{"kafka:9092", "xkafkay:1"}, a.Brokers); diff != "" {
		t.Error(diff)
	}
	if a.ClientID != "${HOST} costs $5" {
		t.Errorf("client_id is %q", a.ClientID)
	}
	if diff := cmp.Diff([]string{"orders$", "kafka"}, c.Flows[0].Topics); diff != "" {
		t.Error(diff)
	}
}

func TestNilEnvironmentHasNoVariables(t *testing.T) {
	_, err := config.Load("testdata/environment.good.yaml", nil)
	if err == nil || !strings.Contains(err.Error(), "environment variable HOST is not set") {
		t.Errorf("error is %v", err)
	}
}

func TestMissingFileGivesErrNotExist(t *testing.T) {
	if _, err := config.Load("testdata/nowhere.yaml", env); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	c := load(t, "full")
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		fmt.Fprintf(&out, verb+"\n", *c.Clusters["primary"].SASL)
		fmt.Fprintf(&out, verb+"\n", c.Clusters["primary"].SASL.Password)
		fmt.Fprintf(&out, verb+"\n", *c.Clusters["primary"].TLS)
		fmt.Fprintf(&out, verb+"\n", *c.Clusters["dr"].TLS)
		fmt.Fprintf(&out, verb+"\n", c.Clusters["dr"])
		fmt.Fprintf(&out, verb+"\n", c.Clusters["tokens"].SASL)
		fmt.Fprintf(&out, verb+"\n", c.Clusters["tokens"].SASL.OAuth)
		fmt.Fprintf(&out, verb+"\n", *c.Clusters["tokens"].SASL.OAuth)
		fmt.Fprintf(&out, verb+"\n", c)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	out.Write(asYAML)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).InfoContext(t.Context(), "config", "config", c, "sasl", c.Clusters["primary"].SASL, "oauth", c.Clusters["tokens"].SASL.OAuth,
			"tls", c.Clusters["primary"].TLS, "password", c.Clusters["primary"].SASL.Password)
	}
	for _, form := range []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret is visible as %q:\n%s", form, out.String())
		}
	}
	if got := c.Clusters["primary"].SASL.Password.Reveal(); got != "s3cr3t" {
		t.Errorf("Reveal gives %q", got)
	}
}

func TestPasswordFileTrimsOneNewline(t *testing.T) {
	for content, want := range map[string]string{"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", " x ": " x "} {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := (config.SASL{PasswordFile: path}).Secret(); got != want || err != nil {
			t.Errorf("%q gives %q, %v", content, got, err)
		}
	}
	if got, err := (config.SASL{Password: "p\n"}).Secret(); got != "p\n" || err != nil {
		t.Errorf("an inline password gives %q, %v", got, err)
	}
	if _, err := (config.SASL{PasswordFile: "nowhere"}).Secret(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

func TestKeySecretFallsBackToStorePassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("in a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		tls  config.TLS
		want string
	}{
		{config.TLS{}, ""},
		{config.TLS{CertPassword: "store"}, "store"},
		{config.TLS{CertPasswordFile: path}, "in a file"},
		{config.TLS{CertPassword: "store", KeyPassword: "own"}, "own"},
		{config.TLS{CertPassword: "store", KeyPasswordFile: path}, "in a file"},
	} {
		if got, err := test.tls.KeySecret(); got != test.want || err != nil {
			t.Errorf("%v gives %q, %v; want %q", test.tls, got, err, test.want)
		}
	}
}

func TestBytesRoundTrip(t *testing.T) {
	for text, want := range map[string]config.Bytes{
		"0": 0, "17": 17, "17B": 17, "32MiB": 32 << 20, "32 mib": 32 << 20, "1GB": 1e9, "3kB": 3000, "5GiB": 5 << 30,
	} {
		var b, again config.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q is %d, %v", text, b, err)
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%d is written %s and read as %d, %v", b, b, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1 apple", "99999999999GiB", "9223372036854775808"} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is parsed as %d", text, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
	f.Add([]byte("flows: &a [*a]"))
	f.Add([]byte("clusters: &a {a: *a}"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f.yaml", data, env)
		var ce *config.Error
		switch {
		case err == nil && c.Validate() != nil:
			t.Fatalf("Validate of a parsed config: %v", c.Validate())
		case err != nil && (!errors.As(err, &ce) || len(ce.Problems) == 0):
			t.Fatalf("error without problems: %v", err)
		}
	})
}

// A token that can be guessed, or that two users share, is none.
func TestTokens(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ tokens, want string }{
		"short":        {`{alice: secret}`, "http.tokens.alice: the token has 6 bytes"},
		"shared":       {`{alice: 0123456789abcdef, bob: 0123456789abcdef}`, "alice has the same token"},
		"no name":      {`{"": 0123456789abcdef}`, "the name of the user is empty"},
		"a dotted one": {`{alice@x.example: 0123456789abcdef}`, ""},
	} {
		_, err := config.Parse("milena.yaml", []byte("clusters: {a: {brokers: [a:1]}, b: {brokers: [b:1]}}\nflows: [{source: a, target: b}]\nhttp: {tokens: "+test.tokens+"}\n"), nil)
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "0123456789abcdef"):
			t.Errorf("%s: the error shows a token: %v", name, err)
		}
	}
}
