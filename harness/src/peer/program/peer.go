// One end of one TLS connection, for gauntlet: a handshake, ping and pong, an orderly end, and what came of
// it in the last line. Refuses to follow any other script.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

var (
	role        = flag.String("role", "", "client or server")
	address     = flag.String("address", "", "where the server listens")
	name        = flag.String("name", "", "whom the client asks for")
	authority   = flag.String("ca", "", "the CA that is trusted, PEM")
	certificate = flag.String("certificate", "", "own certificate, PEM")
	key         = flag.String("key", "", "its key, PEM")
	min         = flag.String("min", "1.2", "lowest TLS version")
	max         = flag.String("max", "1.3", "highest TLS version")
	suites      = flag.String("suites", "", "cipher suites of TLS 1.2, IANA names")
	clientAuth  = flag.String("client-auth", "none", "none, optional or required")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Printf("outcome: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("outcome: ok")
}

func run() error {
	config, err := configuration()
	if err != nil {
		return err
	}
	if *role == "client" {
		conn, err := net.Dial("tcp", *address)
		if err != nil {
			return err
		}
		return speak(conn, tls.Client(conn, config), "ping", "pong")
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	// Whoever waits for nobody is told to stop; a connection that stands goes on to its end.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		listener.Close()
	}()
	fmt.Println("listening")
	conn, err := listener.Accept()
	if err != nil {
		return errors.New("no connection")
	}
	return speak(conn, tls.Server(conn, config), "pong", "ping")
}

// speak does the handshake and the exchange, and ends so that nothing stays unread: a socket closed with bytes
// unread sends RST, which destroys an alert on its way.
func speak(conn net.Conn, session *tls.Conn, say, expect string) error {
	defer conn.Close()
	err := exchange(session, say, expect)
	if err == nil {
		err = session.CloseWrite()
	}
	if tcp, is := conn.(*net.TCPConn); is {
		tcp.CloseWrite()
	}
	io.Copy(io.Discard, conn)
	return err
}

func exchange(session *tls.Conn, say, expect string) error {
	if err := session.Handshake(); err != nil {
		return err
	}
	if say == "ping" {
		if _, err := session.Write([]byte(say)); err != nil {
			// A rejection that has come by now is the better answer.
			if _, told := session.Read(make([]byte, 1)); told != nil {
				return told
			}
			return err
		}
	}
	heard := make([]byte, len(expect))
	if _, err := io.ReadFull(session, heard); err != nil {
		return err
	}
	if string(heard) != expect {
		return fmt.Errorf("unexpected %q", heard)
	}
	if say == "pong" {
		_, err := session.Write([]byte(say))
		return err
	}
	return nil
}

func configuration() (*tls.Config, error) {
	pem, err := os.ReadFile(*authority)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + *authority)
	}
	config := &tls.Config{RootCAs: trusted, ClientCAs: trusted, ServerName: *name}
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	config.MinVersion, config.MaxVersion = versions[*min], versions[*max]
	config.ClientAuth = map[string]tls.ClientAuthType{
		"none":     tls.NoClientCert,
		"optional": tls.VerifyClientCertIfGiven,
		"required": tls.RequireAndVerifyClientCert,
	}[*clientAuth]
	if *certificate != "" {
		own, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
		// Also where the server does not name its CA: that is what the case is about.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &own, nil
		}
	}
	if *suites != "" {
		for _, wanted := range strings.Split(*suites, ",") {
			id, err := suite(wanted)
			if err != nil {
				return nil, err
			}
			config.CipherSuites = append(config.CipherSuites, id)
		}
	}
	return config, nil
}

func suite(wanted string) (uint16, error) {
	for _, known := range tls.CipherSuites() {
		if known.Name == wanted {
			return known.ID, nil
		}
	}
	return 0, errors.New("no cipher suite called " + wanted)
}
