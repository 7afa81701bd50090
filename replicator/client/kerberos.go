package client

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	krb5client "github.com/jcmturner/gokrb5/v8/client"
	krb5config "github.com/jcmturner/gokrb5/v8/config"
	krb5credentials "github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"

	"github.com/milena-kafka/milena/config"
)

// kerberosTimeout is how long a login may take, of which the library spends five seconds on each KDC that does not answer.
const kerberosTimeout = 11 * time.Second

// gssapi is GSSAPI, with Kerberos. Each login reads the files again and asks the KDC for its tickets, as connections are rare and a ticket that is kept
// would have to be renewed.
type gssapi struct {
	config  config.Kerberos
	timeout time.Duration
}

// Name implements sasl.Mechanism.
func (gssapi) Name() string { return config.MechanismGSSAPI }

// ticketed is what the KDC gave for a login.
type ticketed struct {
	session sasl.Session
	message []byte
	err     error
}

// Authenticate implements sasl.Mechanism. The library knows no context: what it still does after the timeout ends by itself.
func (g gssapi) Authenticate(ctx context.Context, address string) (sasl.Session, []byte, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	client, err := g.client()
	if err != nil {
		return nil, nil, err
	}
	// The library clears the client when a login that has failed is collected.
	principal, realm := client.Credentials.UserName(), client.Credentials.Domain()
	login := kerberos.Kerberos(func(context.Context) (kerberos.Auth, error) {
		return kerberos.Auth{Client: client, Service: g.config.ServiceName}, nil
	})
	done := make(chan ticketed, 1)
	go func() {
		var t ticketed
		t.session, t.message, t.err = login.Authenticate(ctx, address)
		done <- t
	}()
	timeout := time.NewTimer(g.timeout)
	defer timeout.Stop()
	select {
	case t := <-done:
		if t.err != nil {
			return nil, nil, g.explain(t.err, principal, realm, host)
		}
		return t.session, t.message, nil
	case <-timeout.C:
		return nil, nil, &loginError{text: fmt.Sprintf("sasl.kerberos: no KDC of %s gives an answer within %v; check the network to it, and its addresses in %s", realm, g.timeout, g.config.Krb5Conf)}
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// client reads the files. It asks no KDC.
func (g gssapi) client() (*krb5client.Client, error) {
	conf, err := krb5config.Load(g.config.Krb5Conf)
	if err != nil {
		return nil, &loginError{text: fmt.Sprintf("sasl.kerberos.krb5_conf: %s cannot be used: %s; set it to the path of a krb5.conf with the KDCs of the realm", g.config.Krb5Conf, oneLine(err.Error()))}
	}
	// TCP only: a firewall that drops UDP would cost the timeout of each KDC.
	conf.LibDefaults.UDPPreferenceLimit = 1
	if g.config.TicketCache != "" {
		cache, err := krb5credentials.LoadCCache(g.config.TicketCache)
		if err != nil {
			return nil, &loginError{text: fmt.Sprintf("sasl.kerberos.ticket_cache: %s cannot be used: %s; get a ticket with kinit -c FILE:%s", g.config.TicketCache, oneLine(err.Error()), g.config.TicketCache)}
		}
		client, err := krb5client.NewFromCCache(cache, conf, krb5client.DisablePAFXFAST(true))
		if err != nil {
			return nil, &loginError{text: fmt.Sprintf("sasl.kerberos.ticket_cache: %s holds no ticket: %s; get one with kinit -c FILE:%s", g.config.TicketCache, oneLine(err.Error()), g.config.TicketCache)}
		}
		return client, nil
	}
	keys, err := keytab.Load(g.config.Keytab)
	if err != nil {
		return nil, &loginError{text: fmt.Sprintf("sasl.kerberos.keytab: %s cannot be used: %s", g.config.Keytab, oneLine(err.Error()))}
	}
	name, realm := g.config.Principal, conf.LibDefaults.DefaultRealm
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		name, realm = name[:at], name[at+1:]
	}
	return krb5client.NewWithKeytab(name, realm, keys, conf, krb5client.DisablePAFXFAST(true)), nil
}

// explain says what a KDC did instead of giving a ticket. The library has texts only, in which the names of RFC 4120 section 7.5.9 are.
func (g gssapi) explain(err error, principal, realm, host string) error {
	text := oneLine(err.Error())
	principal += "@" + realm
	service := g.config.ServiceName + "/" + host
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("KDC_ERR_C_PRINCIPAL_UNKNOWN"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos: the KDC does not know %s (%s); check sasl.kerberos.principal", principal, text), refused: true}
	case has("KDC_ERR_S_PRINCIPAL_UNKNOWN"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos: the KDC does not know the service %s (%s); check sasl.kerberos.service_name, and that the brokers have the names under which the KDC knows them", service, text)}
	case has("KDC_ERR_PREAUTH_FAILED"), has("Decrypt"), has("decrypt"), has("matching key not found"), has("KRB_AP_ERR_BAD_INTEGRITY"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos.keytab: %s does not hold the key of %s that the KDC has (%s); export it again", g.config.Keytab, principal, text), refused: true}
	case has("KRB_AP_ERR_SKEW"), has("lock skew"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos: the clocks of this host and of the KDC differ too much (%s); set them by NTP", text)}
	case has("no valid existing session"), has("KRB_AP_ERR_TKT_EXPIRED"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos.ticket_cache: the ticket in %s has expired (%s); renew it with kinit, or use a keytab", g.config.TicketCache, text)}
	case has("communicat"), has("KDC"):
		return &loginError{text: fmt.Sprintf("sasl.kerberos: no KDC of %s can be reached or gives a ticket (%s); check its addresses in %s", realm, text, g.config.Krb5Conf)}
	}
	return &loginError{text: fmt.Sprintf("sasl.kerberos: %s gets no ticket for %s: %s; check principal, keytab and krb5_conf", principal, service, text)}
}
