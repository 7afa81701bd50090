package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

func TestTLSAndSASL(t *testing.T) {
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	other, err := kafka.NewAuthority("another authority")
	check(t, err)
	const secret = "correct horse battery staple"
	security := &kafka.Security{CA: ca, Users: map[string]string{"milena": secret, "guest": secret}}
	authorized := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS;User:milena",
	}
	p := startPair(t, kafka.Options{Security: security}, kafka.Options{Security: security, Properties: authorized})
	ctx := t.Context()
	write := func(name, content string) string {
		path := filepath.Join(p.dir, name)
		check(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	caFile, otherFile := write("ca.pem", string(ca.PEM)), write("other.pem", string(other.PEM))
	passwordFile := write("password", secret+"\n")
	cluster := func(c *kafka.Cluster, ca, mechanism string, password daemon.Map) daemon.Map {
		sasl := daemon.Map{"mechanism": mechanism, "username": "milena"}
		for k, v := range password {
			sasl[k] = v
		}
		return daemon.Map{"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": ca}, "sasl": sasl}
	}
	p.createTopic("secure", 3, 1)
	w := p.writer(load.Options{Topic: "secure", Partitions: 3})
	for _, tt := range []struct{ name, source, target string }{
		{"SCRAM-SHA-512 to PLAIN", "SCRAM-SHA-512", "PLAIN"},
		{"PLAIN to SCRAM-SHA-256", "PLAIN", "SCRAM-SHA-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.in(t)
			check(t, w.Write(ctx, 1000))
			config := p.config("secure")
			config["clusters"] = daemon.Map{
				"source": cluster(p.source, caFile, tt.source, daemon.Map{"password_file": passwordFile}),
				"target": cluster(p.target, caFile, tt.target, daemon.Map{"password": secret}),
			}
			m := p.startMilena(config)
			p.waitAndVerify(m, 30*time.Second, w.Acked(), "secure")
			m.stop()
			if strings.Contains(m.Output(), secret) {
				t.Error("the log contains the password")
			}
		})
	}
	for _, tt := range []struct {
		name    string
		cluster daemon.Map
		want    string // a regular expression that one line of the output must match
	}{
		{"a wrong password is reported", cluster(p.source, caFile, "SCRAM-SHA-512", daemon.Map{"password": "Tr0ub4dor&3"}), `(?i)source.*(password|credential|authenticat)`},
		{"a wrong authority is reported", cluster(p.source, otherFile, "PLAIN", daemon.Map{"password": secret}), `(?i)source.*(authority|certificate)`},
		{"a missing login is reported", daemon.Map{"brokers": p.source.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}}, `(?i)source.*sasl`},
		{"a missing TLS section is reported", daemon.Map{"brokers": p.source.SecureAddrs()}, `(?i)source.*tls`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.in(t)
			config := p.config("secure")
			config["clusters"] = daemon.Map{"source": tt.cluster, "target": cluster(p.target, caFile, "PLAIN", daemon.Map{"password": secret})}
			code, out := p.runVerb(t, "check", config)
			if code != 1 {
				t.Errorf("check: exit code %d, want 1", code)
			}
			matchLine(t, out, tt.want)
			if strings.Contains(out, "Tr0ub4dor&3") || strings.Contains(out, secret) {
				t.Error("the output contains a password")
			}
		})
	}
	t.Run("missing rights are reported", func(t *testing.T) {
		p := p.in(t)
		config := p.config("secure")
		config["clusters"] = daemon.Map{
			"source": cluster(p.source, caFile, "PLAIN", daemon.Map{"password": secret}),
			"target": cluster(p.target, caFile, "PLAIN", daemon.Map{"password": secret, "username": "guest"}),
		}
		code, out := p.runVerb(t, "check", config)
		if code != 1 {
			t.Errorf("check: exit code %d, want 1", code)
		}
		matchLine(t, out, `(?i)target.*(right|authoriz|acl|allowed)`)
		m := p.newMilena("milena", config)
		m.start()
		check(t, m.Until(within(t, 20*time.Second, "run reports it in /readyz or exits"), 50*time.Millisecond, func() (bool, string) {
			why := m.WaitReady(within(t, 200*time.Millisecond, "ready"))
			return why == nil || regexp.MustCompile(`(?i)(right|authoriz|acl)`).MatchString(why.Error()+m.Output()), fmt.Sprint(why)
		}))
		if m.WaitReady(within(t, 200*time.Millisecond, "ready")) == nil {
			t.Error("milena is ready without any right on the target")
		}
	})
	t.Run("a wrong password ends run with exit code 1", func(t *testing.T) {
		p := p.in(t)
		config := p.config("secure")
		config["clusters"] = daemon.Map{
			"source": cluster(p.source, caFile, "PLAIN", daemon.Map{"password": "Tr0ub4dor&3"}),
			"target": cluster(p.target, caFile, "PLAIN", daemon.Map{"password": secret}),
		}
		m := p.newMilena("milena", config)
		m.start()
		m.waitExit(30*time.Second, 1)
		matchLine(t, m.Output(), `(?i)source.*(password|credential|authenticat)`)
	})
}

// matchLine fails the test unless a line of the text matches.
func matchLine(t *testing.T, text, pattern string) {
	t.Helper()
	if line := regexp.MustCompile(`.*` + pattern + `.*`).FindString(text); line == "" {
		t.Errorf("nothing matches %s in:\n%.3000s", pattern, text)
	} else {
		t.Logf("matched: %.600s", line)
	}
}
