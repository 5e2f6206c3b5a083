from services.play import play

play("api")
