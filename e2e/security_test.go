package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

const saslPassword = "correct horse battery staple"

// secured is a pair of clusters with TLS and SASL. The target has an authorizer; milena may do everything there, guest nothing.
type secured struct {
	*pair
	w            *load.Writer
	caFile       string
	otherCAFile  string // of an authority that has signed nothing
	passwordFile string
}

func TestTLSAndSASL(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	s.createTopic("secure", 3, 1)
	s.w = s.writer(load.Options{Topic: "secure", Partitions: 3})
	for _, tt := range []struct{ name, source, target string }{
		{"SCRAM-SHA-512 to PLAIN", "SCRAM-SHA-512", "PLAIN"},
		{"PLAIN to SCRAM-SHA-256", "PLAIN", "SCRAM-SHA-256"},
	} {
		t.Run(tt.name, func(t *testing.T) { s.copies(t, tt.source, tt.target) })
	}
	for _, tt := range []struct {
		name   string
		source daemon.Map
		want   string // a regular expression that one line of the output must match
	}{
		{"a wrong password is reported", s.cluster(s.source, "SCRAM-SHA-512", daemon.Map{"password": "Tr0ub4dor&3"}), `(?i)source.*(password|credential|authenticat)`},
		{"a wrong authority is reported", s.withAuthority(s.otherCAFile), `(?i)source.*(authority|certificate)`},
		{"a missing login is reported", daemon.Map{"brokers": s.source.SecureAddrs(), "tls": daemon.Map{"ca_file": s.caFile}}, `(?i)source.*sasl`},
		{"a missing TLS section is reported", daemon.Map{"brokers": s.source.SecureAddrs()}, `(?i)source.*tls`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := s.checkFails(t, s.configOf(tt.source, s.cluster(s.target, "PLAIN", nil)))
			matchLine(t, out, tt.want)
			if strings.Contains(out, "Tr0ub4dor&3") || strings.Contains(out, saslPassword) {
				t.Error("the output contains a password")
			}
		})
	}
	t.Run("missing rights are reported", s.missingRights)
	t.Run("a wrong password ends run with exit code 1", func(t *testing.T) {
		source := s.cluster(s.source, "PLAIN", daemon.Map{"password": "Tr0ub4dor&3"})
		m := s.in(t).newMilena("milena", s.configOf(source, s.cluster(s.target, "PLAIN", nil)))
		m.start()
		m.waitExit(30*time.Second, 1)
		matchLine(t, m.Output(), `(?i)source.*(password|credential|authenticat)`)
	})
	t.Run("a source whose login is refused stops no other one", s.badSpoke)
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	other, err := kafka.NewAuthority("another authority")
	check(t, err)
	security := &kafka.Security{CA: ca, Users: map[string]string{"milena": saslPassword, "guest": saslPassword}}
	authorized := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS;User:milena",
	}
	s := &secured{pair: startPair(t, kafka.Options{Security: security}, kafka.Options{Security: security, Properties: authorized})}
	write := func(name, content string) string {
		path := filepath.Join(s.dir, name)
		check(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	s.caFile, s.otherCAFile = write("ca.pem", string(ca.PEM)), write("other.pem", string(other.PEM))
	s.passwordFile = write("password", saslPassword+"\n")
	return s
}

// cluster is the configuration of a cluster, for user milena with the right password. The keys in sasl override that.
func (s *secured) cluster(c *kafka.Cluster, mechanism string, sasl daemon.Map) daemon.Map {
	login := daemon.Map{"mechanism": mechanism, "username": "milena", "password": saslPassword}
	maps.Copy(login, sasl)
	return daemon.Map{"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": s.caFile}, "sasl": login}
}

// withAuthority is the configuration of the source with this CA file.
func (s *secured) withAuthority(caFile string) daemon.Map {
	c := s.cluster(s.source, "PLAIN", nil)
	c["tls"] = daemon.Map{"ca_file": caFile}
	return c
}

func (s *secured) configOf(source, target daemon.Map) daemon.Map {
	config := s.config("secure")
	config["clusters"] = daemon.Map{"source": source, "target": target}
	return config
}

// copies replicates with these SASL mechanisms. The source's password is in a file.
func (s *secured) copies(t *testing.T, sourceMechanism, targetMechanism string) {
	p := s.in(t)
	check(t, s.w.Write(t.Context(), 1000))
	source := s.cluster(s.source, sourceMechanism, daemon.Map{"password_file": s.passwordFile})
	delete(source["sasl"].(daemon.Map), "password")
	m := p.startMilena(s.configOf(source, s.cluster(s.target, targetMechanism, nil)))
	p.waitAndVerify(m, 30*time.Second, s.w.Acked(), "secure")
	m.stop()
	if strings.Contains(m.Output(), saslPassword) {
		t.Error("the log contains the password")
	}
}

// badSpoke copies two sources, one of which refuses the login until its password file is mended.
func (s *secured) badSpoke(t *testing.T) {
	p := s.in(t)
	passwordFile := filepath.Join(p.dir, "spoke-password")
	check(t, os.WriteFile(passwordFile, []byte("Tr0ub4dor&3"), 0o600))
	spoke := s.cluster(s.source, "PLAIN", daemon.Map{"password_file": passwordFile})
	delete(spoke["sasl"].(daemon.Map), "password")
	config := s.configOf(s.cluster(s.source, "PLAIN", nil), s.cluster(s.target, "PLAIN", nil))
	config["clusters"].(daemon.Map)["spoke"] = spoke
	config["flows"] = append(config["flows"].([]daemon.Map), daemon.Map{"source": "spoke", "target": "target", "topics": []string{"secure"}})
	m := p.newMilena("milena", config)
	m.start()
	check(t, s.w.Write(t.Context(), 500))
	p.waitAndVerify(m, 30*time.Second, s.w.Acked(), "secure")
	check(t, m.Until(within(t, 20*time.Second, "/readyz says which login is refused"), 50*time.Millisecond, func() (bool, string) {
		why := m.WaitReady(within(t, 200*time.Millisecond, "ready"))
		return why != nil && regexp.MustCompile(`(?i)spoke.*(credential|authenticat)`).MatchString(why.Error()), fmt.Sprint(why)
	}))
	check(t, os.WriteFile(passwordFile, []byte(saslPassword), 0o600))
	m.waitReady(90 * time.Second)
	ends := endOffsets(t, s.sourceClient, "secure")["secure"]
	eventually(t, 30*time.Second, "both sources are copied", func() (bool, string) {
		copied := slices.DeleteFunc(m.partitions(), func(part daemon.Partition) bool { return part.Acked < ends[part.Partition] })
		return len(copied) == 2*len(ends), fmt.Sprintf("%d of %d partitions", len(copied), 2*len(ends))
	})
	p.verify(func(topic string) string { return "spoke." + topic }, "secure")
	m.stop()
}

// checkFails runs milena check, which must end with exit code 1, and returns its output.
func (s *secured) checkFails(t *testing.T, config daemon.Map) string {
	t.Helper()
	code, out := s.in(t).runVerb(t, "check", config)
	if code != 1 {
		t.Errorf("check: exit code %d, want 1", code)
	}
	return out
}

// missingRights logs in to the target as a user without any right: check reports it, and run is never ready.
func (s *secured) missingRights(t *testing.T) {
	config := s.configOf(s.cluster(s.source, "PLAIN", nil), s.cluster(s.target, "PLAIN", daemon.Map{"username": "guest"}))
	matchLine(t, s.checkFails(t, config), `(?i)target.*(right|authoriz|acl|allowed)`)
	m := s.in(t).newMilena("milena", config)
	m.start()
	check(t, m.Until(within(t, 20*time.Second, "run reports it in /readyz or exits"), 50*time.Millisecond, func() (bool, string) {
		why := m.WaitReady(within(t, 200*time.Millisecond, "ready"))
		return why == nil || regexp.MustCompile(`(?i)(right|authoriz|acl)`).MatchString(why.Error()+m.Output()), fmt.Sprint(why)
	}))
	if m.WaitReady(within(t, 200*time.Millisecond, "ready")) == nil {
		t.Error("milena is ready without any right on the target")
	}
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
