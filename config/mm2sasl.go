package config

import (
	"net/url"
	"slices"
	"strings"
)

// The Java classes of logins that milena has an equivalent of.
const (
	plainModule  = "org.apache.kafka.common.security.plain.PlainLoginModule"
	scramModule  = "org.apache.kafka.common.security.scram.ScramLoginModule"
	mskModule    = "software.amazon.msk.auth.iam.IAMLoginModule"
	krb5Module   = "com.sun.security.auth.module.Krb5LoginModule"
	bearerModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"

	bearerHandler        = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
	bearerHandlerBefore4 = "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler"
	bearerClientHandler  = "org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerSaslClientCallbackHandler"
	mskHandler           = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
	mskBearerHandler     = "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler"
	strimziHandler       = "io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler"
)

// sasl reads the login of one cluster.
func (m *mm2) sasl(alias string, get lookup) *SASL {
	s, named := &SASL{Mechanism: MechanismGSSAPI}, get("sasl.mechanism", "sasl.mechanism")
	if named == nil { // Java's default
		named = m.first(alias+".security.protocol", "security.protocol")
	} else {
		value, ok := m.value(named)
		if !ok {
			return s
		}
		s.Mechanism = strings.TrimSpace(value)
	}
	if !slices.Contains(mechanisms(), s.Mechanism) {
		m.bad(named, "is a mechanism that milena does not support; use %s", choice(mechanisms()))
		return s
	}
	p := get("sasl", "sasl.jaas.config")
	switch {
	case p == nil && m.props[alias+".sasl.mechanism"] == nil && m.props["sasl.mechanism"] == nil:
		m.bad(named, "without %s.sasl.mechanism means %s (Kerberos); set %s.sasl.mechanism, such as %s, or %s.sasl.jaas.config = %s", alias, s.Mechanism, alias, MechanismScramSHA512, alias, loginOf(s.Mechanism))
		return s
	case p == nil:
		m.bad(named, "needs %s.sasl.jaas.config with %s", alias, loginOf(s.Mechanism))
		return s
	}
	j, ok := m.newJAAS(alias, p)
	if !ok {
		return s
	}
	switch s.Mechanism {
	case MechanismOAuthBearer:
		j.oauth(s, get)
	case MechanismMSKIAM:
		j.mskIAM(s, get)
	case MechanismGSSAPI:
		j.kerberos(s, get)
	default:
		for _, key := range []string{"sasl.client.callback.handler.class", "sasl.login.class", "sasl.login.callback.handler.class"} {
			if p := get("", key); p != nil {
				m.bad(p, "is Java code, which milena cannot run; set username and password in sasl.jaas.config and remove the key")
			}
		}
		j.password(s)
	}
	return s
}

// loginOf says what a JAAS config must have.
func loginOf(mechanism string) string {
	switch mechanism {
	case MechanismOAuthBearer:
		return bearerModule + ` required clientId="ID" clientSecret="SECRET";`
	case MechanismMSKIAM:
		return mskModule + " required;"
	case MechanismGSSAPI:
		return krb5Module + ` required useKeyTab=true keyTab="PATH" principal="NAME@REALM";`
	default:
		return "a username and a password"
	}
}

// noJavaCode reports a class that is not one of those that milena has an equivalent of.
func (j *jaas) noJavaCode(get lookup, key string, known ...string) {
	if p := get("", key); p != nil && !slices.Contains(known, strings.TrimSpace(p.value)) {
		j.bad(p, "is Java code, which milena cannot run; remove the key")
	}
}

// mskIAM reads the login of AWS_MSK_IAM.
func (j *jaas) mskIAM(s *SASL, get lookup) {
	j.noJavaCode(get, "sasl.login.class")
	j.noJavaCode(get, "sasl.login.callback.handler.class")
	j.noJavaCode(get, "sasl.client.callback.handler.class", mskHandler)
	if !j.of(s.Mechanism, mskModule) {
		return
	}
	a := AWS{
		Region: j.option("awsStsRegion"), Profile: j.option("awsProfileName"),
		RoleARN: j.option("awsRoleArn"), RoleSessionName: j.option("awsRoleSessionName"),
	}
	j.ignore("awsDebugCreds", "awsMaxRetries", "awsMaxBackOffTimeMs")
	j.refuseRest("awsProfileName, awsRoleArn, awsRoleSessionName and awsStsRegion; credentials and an external id belong into a profile of AWS")
	if a != (AWS{}) {
		s.AWS = &a
	}
}

// kerberos reads the login of GSSAPI.
func (j *jaas) kerberos(s *SASL, get lookup) {
	for _, key := range []string{"sasl.login.class", "sasl.login.callback.handler.class", "sasl.client.callback.handler.class"} {
		j.noJavaCode(get, key)
	}
	if !j.of(s.Mechanism, krb5Module) {
		return
	}
	k := DefaultKerberos()
	k.Keytab, k.Principal, k.TicketCache = j.option("keyTab"), j.option("principal"), j.option("ticketCache")
	withKeytab, withCache := j.option("useKeyTab") == "true", j.option("useTicketCache") == "true"
	named := j.option("serviceName")
	if p := get("sasl.kerberos.service_name", "sasl.kerberos.service.name"); p != nil {
		value, _ := j.value(p)
		if value = strings.TrimSpace(value); named != "" && named != value {
			j.bad(p, "differs from serviceName in %s.sasl.jaas.config; keep one of the two", j.alias)
		}
		named = value
	}
	if named != "" {
		k.ServiceName = named
	}
	j.ignore("storeKey", "doNotPrompt", "debug", "refreshKrb5Config", "renewTGT", "isInitiator", "useFirstPass", "tryFirstPass", "storePass", "clearPass")
	j.refuseRest("useKeyTab, keyTab, principal, useTicketCache, ticketCache and serviceName")
	switch {
	case withKeytab: // goes before a ticket cache here, as it does not expire
		if k.TicketCache = ""; k.Keytab == "" || k.Principal == "" {
			j.bad(j.property, "has useKeyTab without keyTab or principal; add both")
		}
	case withCache:
		if k.Keytab, k.Principal = "", ""; k.TicketCache == "" {
			j.bad(j.property, "has useTicketCache without ticketCache; add the path of the file, which klist shows")
		}
	default:
		j.bad(j.property, `has neither useKeyTab=true nor useTicketCache=true; use %s`, loginOf(MechanismGSSAPI))
	}
	s.Kerberos = &k
}

// oauth reads the login of OAUTHBEARER.
func (j *jaas) oauth(s *SASL, get lookup) {
	const use = "use " + bearerHandler + " with sasl.oauthbearer.token.endpoint.url"
	j.noJavaCode(get, "sasl.login.class")
	j.noJavaCode(get, "sasl.client.callback.handler.class", bearerClientHandler)
	handler := get("", "sasl.login.callback.handler.class")
	if !j.of(s.Mechanism, bearerModule) {
		return
	}
	if handler == nil {
		j.bad(get("", "sasl.mechanism"), "without sasl.login.callback.handler.class means tokens that nobody has signed, which are for tests; %s", use)
		return
	}
	class, ok := j.value(handler)
	if !ok {
		return
	}
	s.OAuth = new(OAuth)
	switch strings.TrimSpace(class) {
	case bearerHandler, bearerHandlerBefore4:
		j.kafkaOAuth(s.OAuth, get)
	case strimziHandler:
		j.strimziOAuth(s.OAuth)
	case mskBearerHandler:
		j.bad(handler, "makes tokens for MSK, which milena does not; set sasl.mechanism = %s, and sasl.jaas.config to %s required;", MechanismMSKIAM, mskModule)
	default:
		j.bad(handler, "is Java code, which milena cannot run; %s", use)
	}
}

// kafkaOAuth reads the keys of Kafka's own login handler: options of the login module, or keys of their own since Kafka 4.1 (KIP-1139).
func (j *jaas) kafkaOAuth(o *OAuth, get lookup) {
	for name := range j.options {
		if extension, ok := strings.CutPrefix(name, "extension_"); ok {
			j.extension(o, extension, name)
		}
	}
	if p := get("", "sasl.oauthbearer.assertion.private.key.file"); p != nil {
		j.bad(p, "is a key to sign assertions with, which milena does not do; let something write signed ones and set sasl.oauthbearer.assertion.file, or use a client secret")
		return
	}
	endpoint := get("sasl.oauth.token_endpoint", "sasl.oauthbearer.token.endpoint.url")
	if endpoint == nil {
		j.bad(get("", "sasl.mechanism"), "needs %s.sasl.oauthbearer.token.endpoint.url, the URL of the token endpoint; set it", j.alias)
		return
	}
	text, ok := j.value(endpoint)
	if !ok {
		return
	}
	o.ClientID = j.either(get, "client_id", "sasl.oauthbearer.client.credentials.client.id", "clientId")
	o.Scope = j.either(get, "scope", "sasl.oauthbearer.scope", "scope")
	o.AssertionFile = j.either(get, "assertion_file", "sasl.oauthbearer.assertion.file", "")
	secret := get("", "sasl.oauthbearer.client.credentials.client.secret")
	j.ignore("clientSecret")
	j.truststoreOption(o, "ssl.truststore.")
	j.refuseRest("clientId, clientSecret, scope, extension_NAME and ssl.truststore.location")
	if isJWTBearer, ok := j.retriever(get); !ok {
		return
	} else if isJWTBearer {
		o.ClientID = "" // the assertion alone is exchanged for a token
	}
	if u, err := url.Parse(strings.TrimSpace(text)); err == nil && u.Scheme == "file" { // Java ignores the client of a file
		*o = OAuth{TokenFile: u.Path, Extensions: o.Extensions}
		return
	}
	o.TokenEndpoint = strings.TrimSpace(text)
	switch {
	case o.AssertionFile != "": // goes before a secret (KIP-1258)
		return
	case secret != nil:
		j.origins["clusters."+j.alias+".sasl.oauth.client_secret"] = secret
		o.ClientSecret, o.ClientSecretFile = j.secretOf(j.alias, "sasl.oauth.client_secret", secret)
	default:
		o.ClientSecret, o.ClientSecretFile = j.secretOption("sasl.oauth.client_secret", "clientSecret")
	}
	j.needClient(o, "clientId", "clientSecret")
}

// retriever reads what makes tokens since Kafka 4.1, and whether that is the JWT bearer grant, which has no client. If ok is false, the problem has been
// reported.
func (j *jaas) retriever(get lookup) (isJWTBearer, ok bool) {
	const classes = "org.apache.kafka.common.security.oauthbearer."
	p := get("", "sasl.oauthbearer.jwt.retriever.class")
	if p == nil {
		return false, true
	}
	switch strings.TrimSpace(p.value) {
	case classes + "DefaultJwtRetriever", classes + "ClientCredentialsJwtRetriever", classes + "FileJwtRetriever":
		return false, true
	case classes + "JwtBearerJwtRetriever":
		if get("", "sasl.oauthbearer.assertion.file") != nil {
			return true, true
		}
		j.bad(p, "needs sasl.oauthbearer.assertion.file, a file with a signed JWT; set it")
	default:
		j.bad(p, "is Java code, which milena cannot run; remove the key, or use %sDefaultJwtRetriever", classes)
	}
	return false, false
}

// strimziOAuth reads the options of Strimzi's login handler.
func (j *jaas) strimziOAuth(o *OAuth) {
	for name := range j.options {
		if extension, ok := strings.CutPrefix(name, "oauth.sasl.extension."); ok {
			j.extension(o, extension, name)
		}
	}
	o.TokenFile, o.TokenEndpoint = j.option("oauth.access.token.location"), j.option("oauth.token.endpoint.uri")
	o.ClientID, o.Scope = j.option("oauth.client.id"), j.option("oauth.scope")
	o.AssertionFile = j.option("oauth.client.assertion.location")
	j.ignore("oauth.client.secret")
	j.truststoreOption(o, "oauth.ssl.truststore.")
	j.refuseRest("oauth.token.endpoint.uri, oauth.client.id, oauth.client.secret, oauth.scope, oauth.access.token.location, " +
		"oauth.client.assertion.location, oauth.sasl.extension.NAME and oauth.ssl.truststore.location")
	switch {
	case o.TokenFile != "": // it goes before everything else
		*o = OAuth{TokenFile: o.TokenFile, Extensions: o.Extensions}
	case o.TokenEndpoint == "":
		j.bad(j.property, "has no oauth.token.endpoint.uri, the URL of the token endpoint; add it")
	case o.AssertionFile == "":
		o.ClientSecret, o.ClientSecretFile = j.secretOption("sasl.oauth.client_secret", "oauth.client.secret")
		j.needClient(o, "oauth.client.id", "oauth.client.secret")
	}
}

// either is a key of its own, or else an option of the login module.
func (j *jaas) either(get lookup, field, key, option string) string {
	own := j.option(option)
	if p := get("sasl.oauth."+field, key); p != nil {
		own, _ = j.value(p)
	}
	return own
}

func (j *jaas) extension(o *OAuth, name, option string) {
	if o.Extensions == nil {
		o.Extensions = make(map[string]string)
	}
	o.Extensions[name] = j.option(option)
}

// truststoreOption reads which CAs may sign the certificate of the token endpoint.
func (j *jaas) truststoreOption(o *OAuth, prefix string) {
	o.CAFile = j.option(prefix + "location")
	j.ignore(prefix + "type") // detected
	if j.options[prefix+"password"] != "" {
		j.ignore(prefix + "password")
		j.bad(j.property, "has %spassword; milena reads the CA of the token endpoint as PEM: export it with keytool -exportcert -rfc, set %slocation to that file, and remove the password", prefix, prefix)
	}
}

func (j *jaas) needClient(o *OAuth, id, secret string) {
	if o.ClientID == "" || o.ClientSecret == "" && o.ClientSecretFile == "" {
		j.bad(j.property, "has no %s or no %s; add both", id, secret)
	}
}
