// Package guard decides who may do what on milena's HTTP server.
//
// A request passes three checks, in this order:
//
//	names.go     is it for a name of this server? (DNS rebinding)
//	access.go    which part is it for, and may anyone read that?
//	login.go     else: who sends it?
//
// A path that access.go does not know needs a login to be read, and every request that is not a GET or HEAD needs one, so a path that is added
// is closed until somebody opens it.
//
// There are four ways to log in. A token is compared by its hash, in constant time. A password is compared with its bcrypt hash, one at a time,
// and remembered by a keyed hash for some minutes, so that a scrape every few seconds costs nothing: passwords.go. Who guesses is slowed down:
// attempts.go. A page gets a signed cookie for one of these: sessions.go. With a client CA, a certificate logs in: certificates.go.
//
// A browser sends a cookie, a certificate and a remembered password with requests of any page. So whatever changes something must be JSON, which
// a page of another site may not send without permission, and must not say that it comes from another site; with a cookie or a certificate it
// must say that it does not.
package guard
