package evidence

// What TestGoldenPlan makes. They change with the format of plans and with it only.
const (
	goldenSeed   = "2c8917f9bf7513f8b483dfab04c7142f228817e30fd586b6aadf5ceeffa03d94"
	goldenOutput = "f9845c23ebf9c8558fc844b2c42c99ba"
	goldenProof  = "40ff68231311b81e58be82e5590aa94f"
	goldenRoster = "1a7528e93214d4362b96539983abfbb3a657673dfbc11e1828be626231909499"
	goldenPlan   = "0752e83ec14a954e9c1827033a4a9bfc7ffc6aa372bd9be4dc03fe916955850b"
)
