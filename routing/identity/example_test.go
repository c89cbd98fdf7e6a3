package identity_test

import (
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

func ExampleParseNodeID() {
	key := identity.NewKeyFromSeed([32]byte{1})
	text := key.Node().String()
	fmt.Println(text)

	_, err := identity.ParseNodeID("a" + text[1:])
	fmt.Println(errors.Is(err, identity.ErrChecksum))
	_, err = identity.ParseNodeID(key.Service().String())
	fmt.Println(errors.Is(err, identity.ErrKind))
	// Output:
	// z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6huzyb
	// true
	// true
}

func ExampleOpen() {
	key := identity.NewKeyFromSeed([32]byte{1})
	sealed, err := key.Seal("example.org/greeting/v1", "greeting", []byte("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := identity.Open("example.org/greeting/v1", "greeting", sealed)
	fmt.Println(string(e.Payload), err, identity.NodeID(e.Signer) == key.Node())

	// Signed for one purpose, it is worth nothing for another.
	_, err = identity.Open("example.org/order/v1", "greeting", sealed)
	fmt.Println(err)
	// Output:
	// hello <nil> true
	// identity: bad signature
}
